"""Write CUDA kernels of your own, check them, and train with them, with or without a GPU.

    python examples/custom_kernel.py                     # the NumPy references on the CPU
    python examples/custom_kernel.py --device cuda:sim   # the CUDA text, run by the host's C++ compiler
    python examples/custom_kernel.py --device cuda       # the CUDA text on a GPU
"""

from __future__ import annotations

import argparse

import numpy as np

import tensorlite as tl
from tensorlite import nn, optim
from tensorlite.nn import functional as F

# A formula: one C++ expression, or statements that return, over elements of type T. It takes all shapes that broadcast,
# all strides and floating dtypes. This derivative is one more kernel: backward passes over memory once. Its own rules
# are made of operations of the library, and give second derivatives.
mish_grad = tl.kernel(
    "mish_grad",
    """
    const T t = tanh(log1p(exp(x)));
    const T sigmoid = 1.0 / (1.0 + exp(-x));
    return grad * (t + x * (1.0 - t * t) * sigmoid);
    """,
    reference=lambda grad, x: grad * (tanh_softplus(x) + x * (1 - tanh_softplus(x) ** 2) / (1 + np.exp(-x))),
    derivative={"grad": lambda g, x: mish_grad(g, x), "x": lambda g, grad, x: g * grad * mish_curvature(x)},
)
mish = tl.kernel("mish", "x * tanh(log1p(exp(x)))", reference=lambda x: x * tanh_softplus(x),
                 derivative=lambda g, x: mish_grad(g, x))


def tanh_softplus(x: np.ndarray) -> np.ndarray:
    return np.tanh(np.log1p(np.exp(x)))


def mish_curvature(x: tl.Tensor) -> tl.Tensor:
    t, s = F.softplus(x).tanh(), x.sigmoid()
    return (1 - t * t) * s * (2 + x * (1 - s - 2 * t * s))


# A whole kernel: indices, shared memory and barriers are its own. One block of 128 threads divides a row by its
# root mean square. Fields of args: out, the inputs, `numbers`, and the keyword-only parameters of the reference.
unit_rms = tl.kernel("unit_rms", source=r"""
template <class T>
__global__ void unit_rms(const Args<T> args) {
  __shared__ Compute<T> partial[128];
  const T* x = args.x + i64(blockIdx.x) * args.columns;
  T* out = args.out + i64(blockIdx.x) * args.columns;

  Compute<T> sum = 0;
  for (i64 j = threadIdx.x; j < args.columns; j += blockDim.x) sum += widen(x[j]) * widen(x[j]);
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }

  const Compute<T> scale = rsqrt(partial[0] / Compute<T>(args.columns) + Compute<T>(args.eps));
  for (i64 j = threadIdx.x; j < args.columns; j += blockDim.x) out[j] = narrow<T>(widen(x[j]) * scale);
}
""", reference=lambda x, *, eps=1e-5: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps),
    derivative=lambda g, x, out, eps: (g - out * (g * out).mean(-1, keepdim=True)) * rms_scale(x, eps),
    grid=lambda x: x.size // x.shape[-1], block=128, numbers={"columns": lambda x: x.shape[-1]})


def rms_scale(x: tl.Tensor, eps: float) -> tl.Tensor:
    return ((x * x).mean(-1, keepdim=True) + eps).rsqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()

    for op in (mish_grad, mish, unit_rms):
        print(op.check(*[(3, 150)] * len(op.inputs), devices=[options.device]))

    tl.manual_seed(0)
    x = tl.rand(256, 2) * 4 - 2
    x, y = x.to(options.device), (x[:, :1] * x[:, 1:]).to(options.device)
    first, last = nn.Linear(2, 32).to(options.device), nn.Linear(32, 1).to(options.device)
    optimizer = optim.Adam([*first.parameters(), *last.parameters()], lr=0.02)
    for step in range(options.steps + 1):
        loss = F.mse_loss(last(unit_rms(mish(first(x)))), y)
        if step % 50 == 0:
            print(f"step {step:3}: loss {loss.item():.4f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
