"""How often one site is asked by all workers together (``worker.source.limits.SiteLimiter``): counted in Redis, on its clock."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.commands.core import Script

from worker.queue.connection import translated
from worker.source.limits import KEPT_S

# The generic cell rate algorithm (ITU-T I.371): one number a site, the time at which its turns are all there again. A turn that
# lies ahead is set aside for its ticket, so that a scan waits for it once, however many others come meanwhile. All by a clock
# that stands still while the site is left alone: turns keep their order and their distance, and those who wait do not all come
# back when that ends, time after time where the site asks for it again and again. KEYS: the site's number, the ticket's, the
# hold, and for how long (ms) the clock has stood by its end. ARGV: turns a minute, or of a hold its length (ms); how long a turn
# is kept (ms). ``clock``, ``at`` and ``full_at`` are microseconds, all else is in ms.
_TAKE = """
local t = redis.call('TIME')
local now, minute, kept = t[1] * 1000000 + t[2], 60000000, tonumber(ARGV[2])
local held = math.max(redis.call('PTTL', KEYS[3]), 0)
local clock = now - 1000 * (tonumber(redis.call('GET', KEYS[4]) or 0) - held)
local at = tonumber(redis.call('GET', KEYS[2]))
if not at then
  local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), clock) + minute / tonumber(ARGV[1])
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - clock) / 1000) + held + 1000)
  at = full_at - minute
end
local wait = math.max(math.ceil((at - clock - 0.5) / 1000), 0) + held
if wait == 0 then
  redis.call('DEL', KEYS[2])
  return 0
end
redis.call('SET', KEYS[2], string.format('%.0f', at), 'PX', wait + kept)
local needed = math.max(wait, redis.call('PTTL', KEYS[1])) + kept
if redis.call('PTTL', KEYS[4]) < needed then redis.call('PEXPIRE', KEYS[4], needed) end
return wait
"""
_HOLD = """
local longer = tonumber(ARGV[1]) - math.max(redis.call('PTTL', KEYS[3]), 0)
if longer <= 0 then return 0 end
redis.call('SET', KEYS[3], 1, 'PX', ARGV[1])
local full_in = redis.call('PTTL', KEYS[1])
if full_in > 0 then redis.call('PEXPIRE', KEYS[1], full_in + longer) end
local stood = tonumber(redis.call('GET', KEYS[4]) or 0) + longer
local needed = math.max(redis.call('PTTL', KEYS[4]), math.max(full_in, 0) + tonumber(ARGV[2]))
redis.call('SET', KEYS[4], stood, 'PX', needed + longer)
return 0
"""


class RedisSiteLimiter:
    """Raises RedisDown."""

    longest_wait_s = 30.0

    def __init__(self, redis: Redis, namespace: str = "vf", *, per_minute: int) -> None:
        self._namespace, self._per_minute = namespace, per_minute
        self._take, self._hold = redis.register_script(_TAKE), redis.register_script(_HOLD)

    def take(self, site: str, ticket: str) -> float:
        return int(self._run(self._take, site, ticket, self._per_minute)) / 1000

    def hold(self, site: str, wait_s: float) -> None:
        self._run(self._hold, site, "", max(1, round(1000 * wait_s)))

    def _run(self, script: Script, site: str, ticket: str, per_minute_or_ms: int) -> Any:
        name = f"{self._namespace}:site:{site}"
        keys = [name, f"{name}:turn:{ticket}", f"{name}:hold", f"{name}:stood"]
        with translated():
            return script(keys=keys, args=[per_minute_or_ms, round(1000 * KEPT_S)])
