"""What a torch script finds different here, or not at all: the texts of reports, and of errors while a script runs.

`DIFFERENT` has names that exist and do not do quite the same; docs/semantics.md says more on most of them. `INSTEAD`
has the replacement for what is missing, by name or by the beginning of a path. `ARGUMENTS` has arguments that exist
nowhere.
"""

from __future__ import annotations

from typing import Final

_LOSS = "input and target must have one shape: where torch warns and broadcasts, this is an error"
_CPU = "changes nothing: there is one way to compute"
_SEEDED = "the same seed gives other numbers than torch's, and the same on every device"

DIFFERENT: Final[dict[str, str]] = {
    "torch.Size": "a plain tuple, as every x.shape is: it has no .numel(), and prints as (2, 3)",
    "torch.Tensor": "Tensor(data) is tl.tensor(data); torch.Tensor(2, 3), memory of a size, is tl.empty(2, 3)",
    "torch.Tensor.T": "of matrices and vectors alone; of more dimensions an error that names .mT and .permute",
    "torch.Tensor.unfold": "windows that overlap cannot be changed in place",
    "torch.accelerator": "a GPU of NVIDIA's, or none",
    "torch.autograd.functional": "no strict, vectorize or strategy: one backward pass per element",
    "torch.autograd.Variable": "with --run alone: gives its tensor back; write the tensor",
    "torch.backends": f"with --run alone; {_CPU}",
    "torch.backends.cuda.matmul.allow_tf32": "with --run alone: changes nothing; see tl.set_float32_matmul_precision",
    "torch.backends.mps": "with --run alone: there is no such device",
    "torch.bernoulli": _SEEDED,
    "torch.compile": "with --run alone: gives the model or function back as it is; tl.capture makes a step fast",
    "torch.device": "a function: for isinstance there is tl.Device; 'cuda' and 'cuda:0' are equal",
    "torch.load": "reads what tl.save wrote and safetensors files, no pickles: convert old files with safetensors once",
    "torch.manual_seed": _SEEDED,
    "torch.multinomial": _SEEDED,
    "torch.nn.BCELoss": _LOSS,
    "torch.nn.Embedding": "sparse and scale_grad_by_freq are refused",
    "torch.nn.EmbeddingBag": "sparse and scale_grad_by_freq are refused",
    "torch.nn.HuberLoss": _LOSS,
    "torch.nn.KLDivLoss": _LOSS,
    "torch.nn.L1Loss": _LOSS,
    "torch.nn.MSELoss": _LOSS,
    "torch.nn.SmoothL1Loss": _LOSS,
    "torch.nn.functional.binary_cross_entropy": _LOSS,
    "torch.nn.functional.huber_loss": _LOSS,
    "torch.nn.functional.kl_div": _LOSS,
    "torch.nn.functional.l1_loss": _LOSS,
    "torch.nn.functional.log_softmax": "dim is required",
    "torch.nn.functional.mse_loss": _LOSS,
    "torch.nn.functional.smooth_l1_loss": _LOSS,
    "torch.nn.functional.softmax": "dim is required",
    "torch.nn.functional.softmin": "dim is required",
    "torch.nn.parallel": "with --run alone, and empty: there is one device per model",
    "torch.normal": _SEEDED,
    "torch.rand": _SEEDED,
    "torch.rand_like": _SEEDED,
    "torch.randint": _SEEDED,
    "torch.randn": _SEEDED,
    "torch.randn_like": _SEEDED,
    "torch.randperm": _SEEDED,
    "torch.save": "writes a safetensors file, not a pickle: state_dicts, tensors and plain values, no objects",
    "torch.scatter_reduce": "no 'prod'; with include_self=False equal extrema that take no part get no gradient",
    "torch.seed": _SEEDED,
    "torch.set_num_threads": "with --run alone: changes nothing",
    "torch.sign": "of nan it is nan",
    "torch.use_deterministic_algorithms": "with --run alone: all algorithms are deterministic always",
    "torch.utils.data.DataLoader": "workers are threads, and batches of tuples are tuples, not lists",
    "torch.utils.tensorboard.SummaryWriter": "tl.SummaryWriter, which needs the extra tensorlite[tensorboard]",
}

INSTEAD: Final[dict[str, str]] = {
    "torch.Tensor.apply_": "compute with whole tensors, or with NumPy: x.numpy()",
    "torch.Tensor.as_strided": "views by .unfold, .expand, .permute and slices",
    "torch.Tensor.is_sparse": "all tensors are dense",
    "torch.Tensor.map_": "compute with whole tensors, or with NumPy: x.numpy()",
    "torch.Tensor.register_post_accumulate_grad_hook": ".register_hook, which sees each gradient before it is added",
    "torch.Tensor.resize_": ".reshape, or a new tensor",
    "torch.Tensor.set_": "x.data = y, or x.copy_(y)",
    "torch.Tensor.share_memory_": "threads share tensors as they are",
    "torch.Tensor.storage": "x.data_ptr() and x.stride() say where elements lie",
    "torch.Tensor.to_sparse": "all tensors are dense",
    "torch.Tensor.untyped_storage": "x.data_ptr() and x.stride() say where elements lie",
    "torch.autograd.functional": "of it there are jacobian and hessian; see tl.autograd.grad",
    "torch.autograd.profiler": "tl.profile",
    "torch.cdouble": "there are no complex numbers",
    "torch.cfloat": "there are no complex numbers",
    "torch.complex": "there are no complex numbers",
    "torch.cond": "Python's if, outside of tl.capture; tl.where inside",
    "torch.cuda.CUDAGraph": "tl.capture",
    "torch.cuda.graph": "tl.capture",
    "torch.cuda.nvtx": "tl.profile",
    "torch.distributed": "one process, one device",
    "torch.distributions": "write the density out; tl.multinomial, tl.bernoulli and tl.normal draw",
    "torch.export": "tl.save of the state_dict",
    "torch.fft": "NumPy's fft, without gradients: np.fft.fft(x.numpy())",
    "torch.func": "tl.autograd.grad",
    "torch.fx": "loss.tape() shows what was computed",
    "torch.hub": "weights come as state_dicts: tl.load reads safetensors files",
    "torch.jit": "leave it out: Python runs; tl.capture makes a step fast",
    "torch.linalg": "of it there are norm, vector_norm and cross; else NumPy's: np.linalg.inv(x.numpy())",
    "torch.multiprocessing": "threads: tensors are shared between them, DataLoader's workers are such",
    "torch.nested": "nn.utils.rnn.pad_sequence and a mask",
    "torch.nn.AlphaDropout": "nn.Dropout",
    "torch.nn.AvgPool3d": "pooling of volumes is missing: nn.AvgPool2d over slices",
    "torch.nn.CTCLoss": "none",
    "torch.nn.Conv3d": "convolutions of volumes are missing: nn.Conv2d over slices",
    "torch.nn.DataParallel": "one device per model: use the model itself",
    "torch.nn.LazyLinear": "nn.Linear with its in_features",
    "torch.nn.MaxPool3d": "pooling of volumes is missing: nn.MaxPool2d over slices",
    "torch.nn.Softmax2d": "nn.Softmax(dim=-3)",
    "torch.nn.SyncBatchNorm": "nn.BatchNorm2d: one device per model",
    "torch.nn.functional.ctc_loss": "none",
    "torch.nn.functional.grid_sample": "none",
    "torch.nn.functional.upsample": "nn.functional.interpolate",
    "torch.nn.init.constant": "nn.init.constant_",
    "torch.nn.init.normal": "nn.init.normal_",
    "torch.nn.init.uniform": "nn.init.uniform_",
    "torch.nn.init.xavier_normal": "nn.init.xavier_normal_",
    "torch.nn.init.xavier_uniform": "nn.init.xavier_uniform_",
    "torch.nn.quantized": "none: float16 and bfloat16 are the narrowest floats",
    "torch.nn.utils.clip_grad_norm": "nn.utils.clip_grad_norm_",
    "torch.nn.utils.parametrizations": "compute the weight in forward()",
    "torch.nn.utils.prune": "multiply the weight by a mask in forward()",
    "torch.nn.utils.spectral_norm": "compute the weight in forward()",
    "torch.nn.utils.weight_norm": "compute the weight in forward()",
    "torch.onnx": "tl.save of the state_dict, and torch to export",
    "torch.optim.Adafactor": "optim.AdamW",
    "torch.optim.LBFGS": "optim.Adam with more steps",
    "torch.optim.SparseAdam": "optim.Adam: gradients are dense",
    "torch.optim.swa_utils.SWALR": "optim.lr_scheduler.LinearLR, then ConstantLR",
    "torch.profiler": "tl.profile",
    "torch.quantization": "none: float16 and bfloat16 are the narrowest floats",
    "torch.set_default_device": "device= where tensors are made, model.to(device)",
    "torch.set_default_tensor_type": "tl.set_default_dtype",
    "torch.sparse": "all tensors are dense",
    "torch.special": "the functions of the same names in tl, where there are some",
    "torch.vmap": "operations take batches: write the dimension out",
    "torchaudio": "another package: none",
    "torchtext": "tl.data.load_text",
    "torchvision": "another package; of it there are tl.data.MNIST, FashionMNIST, EMNIST, ImageFolder and transforms",
    "torchvision.models": "another package: write the network out, and load its weights from a safetensors file",
}

ARGUMENTS: Final[dict[str, str]] = {
    "_weight": "set .weight.data, or from_pretrained",
    "capturable": "leave it out: all optimizers can be captured",
    "differentiable": "leave it out",
    "foreach": "leave it out: all parameters are updated together always",
    "fused": "leave it out: the update is one kernel always",
    "input": "pass it by place",
    "memory_format": "leave it out: images are (N, C, H, W)",
    "other": "pass it by place",
    "out": "assign the result, or out.copy_(result)",
    "pickle_module": "leave it out: nothing is pickled",
    "reduce": "reduction=",
    "self": "pass it by place",
    "size_average": "reduction=",
    "tensors": "pass it by place",
}


def difference(name: str) -> str | None:
    """What differs in a name that exists; None where nothing does."""
    return _longest(DIFFERENT, name, whole=not name.startswith(("torch.backends", "torch.nn.parallel")))


def instead(name: str) -> str:
    """What to do without a name, as far as that is known."""
    return _longest(INSTEAD, name, whole=False) or "no replacement is known"


def _longest(texts: dict[str, str], name: str, whole: bool) -> str | None:
    """The text of a name, or unless it has to be the whole name, of its longest beginning."""
    while name not in texts:
        name, dot, _ = name.rpartition(".")
        if whole or not dot:
            return None
    return texts[name]
