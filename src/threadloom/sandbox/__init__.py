"""The code interpreter's sandboxes: where Python that a model wrote is run, and what keeps it there.

`session.py` is the port that runs use. Behind it `sessions.py` keeps one kernel per thread, `pool.py` spares, `docker.py`
starts containers, `kernel.py` speaks with the driver (`image/driver.py`) inside, and treats all it says as hostile.
"""
