"""Run folders, atomic writes, provenance, process groups."""
