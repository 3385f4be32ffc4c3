"""SeaweedFS for the measurements in this folder."""

import os
import secrets
import socket
import subprocess
import sys
import time


def low_ports(host, count):
    """Different ones whose twins 10,000 above are free too, where SeaweedFS puts gRPC; below the ports that the kernel gives
    away."""
    chosen, held = [], []
    while len(chosen) < count:
        port = 12000 + secrets.randbelow(10000)
        try:
            for one in (port, port + 10000):
                probe = socket.socket()
                held.append(probe)
                probe.bind((host, one))
            chosen.append(port)
        except OSError:
            continue
    for probe in held:
        probe.close()
    return chosen


def start(folder, key, secret, host="127.0.0.1"):
    """The process, and the endpoint at which it answers. Buckets are made by whoever needs them."""
    port, *others = low_ports(host, 5)
    command = ["weed", "mini", f"-dir={folder}", f"-ip={host}", f"-ip.bind={host}", f"-s3.port={port}"]
    command += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += ["-s3.autoCreateBucket=false", "-volume.max=4000", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}.port={other}" for name, other in zip(("master", "volume", "filer", "admin"), others)]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    for _ in range(300):
        try:
            socket.create_connection((host, port), 1).close()
            return server, f"http://{host}:{port}"
        except OSError:
            time.sleep(0.1)
    server.kill()
    sys.exit("error: weed did not start")
