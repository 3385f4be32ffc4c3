TEXT = b"corpus python-uv\n"
