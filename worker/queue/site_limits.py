"""How often one site is asked by all workers together (``worker.source.limits.SiteLimiter``): counted in Redis, on its clock."""

from __future__ import annotations

from redis import Redis

from worker.queue.connection import translated
from worker.source.limits import KEPT_S

# The generic cell rate algorithm (ITU-T I.371): one number a site, the time at which its turns are all there again. A turn that
# lies ahead is set aside for its ticket, so that a scan waits for it once, however many others come meanwhile.
_TAKE = """
local t = redis.call('TIME')
local now, minute = t[1] * 1000000 + t[2], 60000000
local held = redis.call('PTTL', KEYS[3])
if held > 0 then return held end
local at = tonumber(redis.call('GET', KEYS[2]))
if not at then
  local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + minute / tonumber(ARGV[1])
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1000)
  at = full_at - minute
end
local wait = math.ceil((at - now - 0.5) / 1000)
if wait <= 0 then
  redis.call('DEL', KEYS[2])
  return 0
end
redis.call('SET', KEYS[2], string.format('%.0f', at), 'PX', wait + tonumber(ARGV[2]))
return wait
"""
_HOLD = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], 1, 'PX', ARGV[1]) end
return 0
"""


class RedisSiteLimiter:
    """Raises RedisDown."""

    longest_wait_s = 30.0

    def __init__(self, redis: Redis, namespace: str = "vf", *, per_minute: int) -> None:
        self._namespace, self._per_minute = namespace, per_minute
        self._take, self._hold = redis.register_script(_TAKE), redis.register_script(_HOLD)

    def take(self, site: str, ticket: str) -> float:
        name = f"{self._namespace}:site:{site}"
        with translated():
            wait_ms = self._take(
                keys=[name, f"{name}:turn:{ticket}", f"{name}:hold"], args=[self._per_minute, round(1000 * KEPT_S)]
            )
        return int(wait_ms) / 1000

    def hold(self, site: str, wait_s: float) -> None:
        with translated():
            self._hold(keys=[f"{self._namespace}:site:{site}:hold"], args=[max(1, round(1000 * wait_s))])
