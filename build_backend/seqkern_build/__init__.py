"""The in-tree PEP 517 build backend of seqkern, and what setup.py needs to configure the build."""
