"""Mithridate: what a data poisoner can do to a training pipeline, and what each defense costs."""

from __future__ import annotations

__version__ = "0.1.0"
