"""What a tensor is, and what can be done with one."""

import numpy as np
import torch

data = [[1, 2], [3, 4]]
x_data = torch.tensor(data)
np_array = np.array(data)
x_np = torch.from_numpy(np_array)
x_ones = torch.ones_like(x_data)
x_float = torch.zeros_like(x_data, dtype=torch.float)
print(f"Ones Tensor: \n {x_ones} \n")
print(f"Float Tensor: \n {x_float} \n")

shape = (2, 3,)
print(torch.ones(shape))
print(torch.zeros(shape))
print(torch.full(shape, 7.5))
print(torch.eye(3), torch.linspace(0, 1, steps=5), torch.arange(0, 10, 2))

tensor = torch.arange(12, dtype=torch.float32).reshape(3, 4)
print(f"Shape of tensor: {tensor.shape}")
print(f"Datatype of tensor: {tensor.dtype}")
print(f"Device tensor is stored on: {tensor.device}")
print(tensor.size(), tensor.size(0), tensor.numel(), tensor.ndim, tensor.is_contiguous(), tensor.stride())

if torch.cuda.is_available():
    tensor = tensor.to("cuda")

print("First row:", tensor[0])
print("First column:", tensor[:, 0])
print("Last column:", tensor[..., -1])
tensor[:, 1] = 0
print(tensor)
print(torch.cat([tensor, tensor, tensor], dim=1))
print(torch.stack([tensor, tensor]).shape)

y1 = tensor @ tensor.T
y2 = tensor.matmul(tensor.T)
y3 = torch.empty_like(y1)
torch.matmul(tensor, tensor.T, out=y3)
print(torch.equal(y1, y2), torch.allclose(y2, y3))
z1 = tensor * tensor
print(tensor.mul(tensor).eq(z1).all())

agg = tensor.sum()
print(agg.item(), type(agg.item()))
tensor.add_(5)
print(tensor)

t = torch.ones(5)
n = t.numpy()
t.add_(1)
print(f"t: {t}")
print(f"n: {n}")

a = torch.tensor([[4.0, 1.0, 3.0], [2.0, 6.0, 5.0]])
print(a.max(), a.min(dim=1), a.argmax(dim=0), a.mean(dim=1, keepdim=True), a.std())
values, indices = torch.topk(a, k=2, dim=1)
print(values, indices)
print(torch.sort(a, dim=1, descending=True).values)
print(a.view(3, 2), a.view(-1), a.t(), a.unsqueeze(0).shape, a.unsqueeze(0).squeeze().shape)
print(a.permute(1, 0).contiguous(), torch.transpose(a, 0, 1), a.flatten())
print(torch.where(a > 3, a, torch.zeros_like(a)), a[a > 2.5], torch.nonzero(a > 4))
print(torch.clamp(a, min=2, max=4), a.clamp_min(3), torch.abs(-a), torch.exp(a).log())
print((a > 2).long(), a.int(), a.double().dtype, a.bool().any(), torch.is_tensor(a))
print(a.numel(), torch.numel(a), a.expand(2, 2, 3).shape, a.repeat(2, 1), torch.chunk(a, 3, dim=1))
print(torch.einsum("ij,kj->ik", a, a), torch.bmm(a[None], a.T[None]), torch.dot(a[0], a[1]))
print(torch.gather(a, 1, torch.tensor([[0, 0], [2, 1]])), torch.bincount(torch.tensor([0, 1, 1, 3])))
print(a.cumsum(dim=1), a.prod(), torch.outer(a[0], a[1]), torch.tril(torch.ones(3, 3)), a.new_zeros(2))
print(torch.unique(torch.tensor([3, 1, 2, 1])), torch.isnan(a).sum(), torch.tensor(float("inf")).isinf())
print(torch.cdist(a, a), torch.quantile(a, 0.5), a.norm(), torch.linalg.norm(a))
print(tuple(a.shape), torch.Size([2, 3]) == a.shape, len(a), [row.tolist() for row in a])
