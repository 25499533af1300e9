"""How often one site is asked by all workers together (``worker.source.limits.SiteLimiter``): counted in Redis, on its clock."""

from __future__ import annotations

from redis import Redis

from worker.queue.connection import translated

# The generic cell rate algorithm (ITU-T I.371): one number a site, the time at which its turns are all there again.
_TAKE = """
local t = redis.call('TIME')
local now, minute = t[1] * 1000000 + t[2], 60000000
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + minute / tonumber(ARGV[1])
local early = full_at - now - minute
if early > 0.5 then return math.ceil(early / 1000) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', 61000)
return 0
"""
_HOLD = """
local t = redis.call('TIME')
local now, minute, wait = t[1] * 1000000 + t[2], 60000000, tonumber(ARGV[2]) * 1000
local held_until = now + minute - minute / tonumber(ARGV[1]) + wait
if held_until > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], string.format('%.0f', held_until), 'PX', 61000 + math.ceil(tonumber(ARGV[2])))
end
return 0
"""


class RedisSiteLimiter:
    """Raises RedisDown."""

    def __init__(self, redis: Redis, namespace: str = "vf", *, per_minute: int) -> None:
        self._namespace, self._per_minute = namespace, per_minute
        self._take, self._hold = redis.register_script(_TAKE), redis.register_script(_HOLD)

    def take(self, site: str) -> float:
        with translated():
            return int(self._take(keys=[self._key(site)], args=[self._per_minute])) / 1000

    def hold(self, site: str, wait_s: float) -> None:
        with translated():
            self._hold(keys=[self._key(site)], args=[self._per_minute, round(1000 * wait_s)])

    def _key(self, site: str) -> str:
        return f"{self._namespace}:site:{site}"
