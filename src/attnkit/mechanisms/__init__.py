"""Every mechanism, one file each: what it is, its formula, the trap, the code, and `MECHANISM`, its value."""
