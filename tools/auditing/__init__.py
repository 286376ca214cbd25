"""What `tools/audit.py` is made of: exact.py and points.py (numbers and where they are taken), accuracy.py (errors and
derivatives), parity.py (PyTorch beside it), devices.py (capture, kernels run on the simulator), surface.py (what is
public), reasons.py (why a row is not exact), record.py (the rows and their grades) and page.py (docs/audit.md).
"""
