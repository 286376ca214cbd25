"""Automatic differentiation: graphs, gradients, switching them off."""

import torch

x = torch.ones(5)
y = torch.zeros(3)
w = torch.linspace(-1, 1, 15).reshape(5, 3).requires_grad_()
b = torch.tensor([0.1, -0.2, 0.3], requires_grad=True)
z = torch.matmul(x, w) + b
loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
print(f"Gradient function for z = {type(z.grad_fn).__name__ != ''}")
loss.backward()
print(w.grad)
print(b.grad)

print(z.requires_grad)
with torch.no_grad():
    z = torch.matmul(x, w) + b
print(z.requires_grad)
z_det = (torch.matmul(x, w) + b).detach()
print(z_det.requires_grad)

inp = torch.eye(4, 5, requires_grad=True)
out = (inp + 1).pow(2).t()
out.backward(torch.ones_like(out), retain_graph=True)
print(f"First call\n{inp.grad}")
out.backward(torch.ones_like(out), retain_graph=True)
print(f"\nSecond call\n{inp.grad}")
inp.grad.zero_()
out.backward(torch.ones_like(out), retain_graph=True)
print(f"\nCall after zeroing gradients\n{inp.grad}")

a = torch.tensor([2.0, 3.0], requires_grad=True)
b = torch.tensor([6.0, 4.0], requires_grad=True)
Q = 3 * a**3 - b**2
Q.backward(gradient=torch.tensor([1.0, 1.0]))
print(9 * a**2 == a.grad)
print(-2 * b == b.grad)

v = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
(g,) = torch.autograd.grad((v**3).sum(), v, create_graph=True)
(h,) = torch.autograd.grad(g.sum(), v)
print(g, h)

m = torch.tensor(1.0, requires_grad=True)
k = m * 2
k.retain_grad()
handle = k.register_hook(lambda grad: grad * 10)
(k**2).backward()
handle.remove()
print(k.grad, m.grad, m.is_leaf, k.is_leaf)


@torch.no_grad()
def evaluate(t):
    return (t * 2).requires_grad


print(evaluate(v), torch.is_grad_enabled())
with torch.set_grad_enabled(False):
    print((v * 2).requires_grad)
with torch.inference_mode():
    print((v * 2).requires_grad)

J = torch.autograd.functional.jacobian(lambda t: t**2, torch.tensor([1.0, 2.0]))
print(J)
print(torch.autograd.gradcheck(torch.sigmoid, (torch.tensor([0.5, -1.0], dtype=torch.double, requires_grad=True),)))
