"""The measured part of a subtomogram's transform, made from tilts, read from files, and measured.

Read ``transfer``, then ``weight_volumes`` and ``table_transfers``, then ``measure`` and ``contradiction``.
"""
