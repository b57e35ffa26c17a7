"""MedPerf: benchmark medical AI without moving patient data."""

__version__ = "0.1.0"
