from small_disks import small_disk

__all__ = ["small_disk"]
