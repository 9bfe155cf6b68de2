"""`overlays/local` rehearsed: its containers are processes, and a storage emulator is the bucket."""
