"""What is taken for granted of a specimen, chosen by views that a reconstruction has not seen.

Read ``trials``, which decides, then ``search``, which tries, then ``choose``, the part of the job.
"""
