"""N Gymnasium environments in one process, stepped in lockstep for drcorl.

supervisor.py     the parent process, which leaves nothing behind
server.py         the loop: one request, one reply
frames.py         binary frames over pipes
status.py         what the process is doing, readable from outside while it is doing it
rows.py           the N environments and their episodes
gymnasium_api.py  what an environment of another API is told
streams.py        random numbers of their own for each row
suites.py         how an environment is made, suite by suite

Nothing beyond the standard library, numpy and what the environment itself needs.
"""

PROTOCOL = 3
