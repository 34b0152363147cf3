"""The pieces of ``benchmarks/gpu.py``: what each measures, and how its work is kept and carried."""
