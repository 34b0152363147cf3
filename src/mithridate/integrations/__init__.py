"""Mithridate inside other people's training code."""
