"""What the operating system can do to a long run: disks, signals, streams, kills; and what must not leave
this machine."""
