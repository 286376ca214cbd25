"""A dataset of one's own, transforms, samplers, collate functions."""

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, WeightedRandomSampler, random_split


class FaceLandmarks(Dataset):
    """Images made by a formula, with the landmarks in them."""

    def __init__(self, length, transform=None, target_transform=None):
        self.length = length
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self):
        return self.length

    def __getitem__(self, idx):
        if torch.is_tensor(idx):
            idx = idx.tolist()
        image = torch.arange(16.0).reshape(1, 4, 4) * (idx + 1)
        landmarks = torch.tensor([idx % 4, (idx * 3) % 4])
        sample = {"image": image, "landmarks": landmarks}
        if self.transform:
            sample = self.transform(sample)
        return sample


class Rescale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, sample):
        return {"image": sample["image"] * self.factor, "landmarks": sample["landmarks"]}


class Normalize:
    def __call__(self, sample):
        image = sample["image"]
        return {**sample, "image": (image - image.mean()) / (image.std() + 1e-6)}


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, sample):
        for t in self.transforms:
            sample = t(sample)
        return sample


dataset = FaceLandmarks(10, transform=Compose([Rescale(0.5), Normalize()]))
print(len(dataset), dataset[3]["image"].shape, dataset[torch.tensor(2)]["landmarks"])
dataloader = DataLoader(dataset, batch_size=4, shuffle=False, num_workers=0, drop_last=True)
for i_batch, sample_batched in enumerate(dataloader):
    print(i_batch, sample_batched["image"].size(), sample_batched["landmarks"].sum())

train, val = random_split(dataset, [7, 3], generator=torch.Generator().manual_seed(0))
print(len(train), len(val), len(Subset(dataset, [0, 2])))
sampler = WeightedRandomSampler(torch.tensor([0.0, 0.0, 1.0]), num_samples=4, replacement=True)
print(list(sampler))


def collate(batch):
    lengths = torch.tensor([len(x) for x in batch])
    return torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), lengths


sequences = [torch.arange(1, k + 1) for k in (3, 1, 2)]
for padded, lengths in DataLoader(sequences, batch_size=3, collate_fn=collate):
    print(padded, lengths)


class Countdown(IterableDataset):
    def __init__(self, start):
        super().__init__()
        self.start = start

    def __iter__(self):
        return iter(range(self.start, 0, -1))


print([batch.tolist() for batch in DataLoader(Countdown(5), batch_size=2)])
print(next(iter(DataLoader(dataset, batch_size=2, pin_memory=False)))["landmarks"])
