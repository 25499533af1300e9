"""Against real servers: what is ridden out, what is refused at once, and that no password is ever shown."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis, exceptions

from tests.worker.queue.harness import later
from worker.errors import ConfigError, RedisDown
from worker.queue.connection import Address, PatientRetry, connect, connect_from, parse, translated, translation
from worker.queue.embedded import EmbeddedRedis
from worker.service_settings import RedisSettings

SECRET = "hunter2-Zx9"


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("redis://10.0.0.1", Address(hosts=(("10.0.0.1", 6379),))),
            ("redis://redis:7000/3", Address(hosts=(("redis", 7000),), db=3)),
            ("redis://[::1]:7000/", Address(hosts=(("::1", 7000),))),
            ("rediss://cache.example/1", Address(hosts=(("cache.example", 6379),), db=1, tls=True)),
            ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
            ("unix:///run/a%20b.sock?db=2", Address(path="/run/a b.sock", db=2)),
            ("sentinel://a:1,b,[::1]:3/main/4", Address(hosts=(("a", 1), ("b", 26379), ("::1", 3)), service="main", db=4)),
            ("sentinel://a/main?sentinel_auth=yes", Address(hosts=(("a", 26379),), service="main", sentinel_auth=True)),
        ],
    )
    def test_forms(self, url: str, address: Address) -> None:
        assert parse(url) == address

    @pytest.mark.parametrize(
        "url",
        [
            f"redis://:{SECRET}@host/0",
            f"redis://user:{SECRET}@host/0",
            f"rediss://{SECRET}@host",
            f"redis://:{SECRET}",
            f"redis://user:{SECRET}/0",
            f"redis://host/{SECRET}",
            f"redis://host?password={SECRET}",
            f"unix:///run/redis.sock?password={SECRET}",
            f"unix://:{SECRET}@/run/redis.sock",
            f"sentinel://:{SECRET}@a:1/main/0",
            f"sentinel://a:{SECRET}/main/0",
            f"sentinel://a/main/0?password={SECRET}",
            f"redis://host/0#{SECRET}",
            f"redis://[{SECRET}]/0",
            f"http://{SECRET}/",
        ],
    )
    def test_whatever_else_is_in_it_is_refused_and_not_repeated(self, url: str) -> None:
        with pytest.raises(ConfigError) as refusal:
            connect(url=url, timeout_s=1, patience_s=0)
        shown = f"{refusal.value} {refusal.value!r} {refusal.value.__cause__}"
        assert SECRET not in shown
        assert refusal.value.__context__ is None or refusal.value.__suppress_context__
        if "@" in url:
            assert "VERIFRAME_REDIS__PASSWORD" in shown

    @pytest.mark.parametrize(
        "url",
        [
            *("", "redis://", "redis:///0", "redis://h/x", "redis://h/0/1", "redis://h:70000", "redis://h:x", "redis://a,b/0"),
            *("redis://h /0", "redis://[::g]/0", "redis://h/99999", "ftp://h", "127.0.0.1:6379"),
            *("unix://", "unix:///", "unix://host/path", "unix:///s?db=x", "unix:///s?x=1", "unix:///s?db=1&db=2"),
            *("sentinel://a", "sentinel://a/", "sentinel://a//0", "sentinel:///main/0", "sentinel://a,/main"),
            *("sentinel://a/m/0?tls=1", "sentinel://a/m?sentinel_auth=maybe"),
        ],
    )
    def test_malformed(self, url: str) -> None:
        with pytest.raises(ConfigError, match=r"redis\.url is not of the form"):
            parse(url)

    def test_values_that_do_not_go_together(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"needs redis\.password"):
            connect(url="redis://h", username="u", timeout_s=1, patience_s=0)
        with pytest.raises(ConfigError, match="would not be encrypted"):
            connect(url="redis://h", tls_ca=tmp_path, timeout_s=1, patience_s=0)
        with pytest.raises(ConfigError, match="is not a file"):
            connect(url="rediss://h", tls_ca=tmp_path, timeout_s=1, patience_s=0)


class TestPatience:
    def test_a_restart_within_patience_is_ridden_out(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=60) as redis:
            redis.set("a", 1)
            own_redis.kill()
            with later(0.5, own_redis.start):
                assert redis.incr("a") == 2
            own_redis.kill()
            with later(0.5, own_redis.start), redis.pipeline(transaction=True) as pipe:
                assert pipe.incr("a").get("a").execute() == [3, b"3"]

    def test_beyond_patience_it_is_down(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=0.6) as redis:
            redis.ping()
            own_redis.kill()
            begun_s = time.monotonic()
            with pytest.raises(RedisDown, match="away"), translated():
                redis.ping()
            assert time.monotonic() - begun_s >= 0.6

    def test_a_retry_within_a_retry_has_no_patience_of_its_own(self) -> None:
        retry = PatientRetry(0.1)
        tries = []

        def connecting() -> None:
            tries.append(1)
            raise exceptions.ConnectionError

        def commanding() -> None:
            time.sleep(0.15)
            retry.call_with_retry(connecting, lambda error: None)

        with pytest.raises(exceptions.ConnectionError):
            retry.call_with_retry(commanding, lambda error: None)
        assert len(tries) == 1

    @pytest.mark.parametrize("before", ["", "Command # 2 (EVALSHA 0f0f 0 vf a) of pipeline caused error: "])
    @pytest.mark.parametrize(
        ("refusal", "kind"),
        [
            ("OOM command not allowed when used memory > 'maxmemory'.", exceptions.OutOfMemoryError),
            ("READONLY You can't write against a read only replica.", exceptions.ReadOnlyError),
            ("NOREPLICAS Not enough good replicas to write.", exceptions.ResponseError),
        ],
    )
    def test_what_a_script_is_refused_by_a_redis_before_7_is_waited_out_too(
        self, before: str, refusal: str, kind: type[exceptions.ResponseError]
    ) -> None:
        # The words of 6.2.14; since 7 the refusal itself stands in their place.
        words = f"{before}Error running script (call to f_{'0f' * 20}): @user_script:197: @user_script: 197: -{refusal}"
        answers = iter([exceptions.ResponseError(words)])

        def evaluating() -> str:
            for answer in answers:
                raise answer
            return "held"

        told: list[Exception] = []
        assert PatientRetry(5, waits_for_room=True).call_with_retry(evaluating, told.append) == "held"
        assert [type(error) for error in told] == [kind]
        assert isinstance(translation(kind(refusal)), RedisDown)

    def test_without_patience_nothing_is_tried_twice(self) -> None:
        with socket.socket() as nobody:  # bound, not listening: refuses
            nobody.bind(("127.0.0.1", 0))
            url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
            with connect(url=url, timeout_s=5, patience_s=0) as redis, pytest.raises(RedisDown), translated():
                redis.ping()

    def test_a_pause_longer_than_an_answer_may_take_is_ridden_out(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=0.3, patience_s=60) as redis:
            redis.ping()
            own_redis.pause()
            with later(1.2, own_redis.resume):
                assert redis.ping()

    def test_a_silent_server_is_down_in_the_end(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=0.2, patience_s=0.5) as redis:
            own_redis.pause()
            with pytest.raises(RedisDown), translated():
                redis.ping()
            own_redis.resume()

    def test_a_wait_asked_of_the_server_is_not_silence(self, redis_server: EmbeddedRedis, redis: Redis) -> None:
        with connect(url=redis_server.url, timeout_s=2, patience_s=0, block_s=3) as blocking:
            begun_s = time.monotonic()
            assert blocking.blpop(["nothing"], timeout=3) is None
            assert time.monotonic() - begun_s >= 2.9
            with later(0.3, lambda: redis.rpush("something", "x") and None):
                assert blocking.blpop(["something"], timeout=3) == (b"something", b"x")

    def test_a_blocked_pop_outlives_a_restart(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=60, block_s=20) as redis:
            redis.ping()

            def restart_and_push() -> None:
                own_redis.kill()
                own_redis.start()
                with connect(url=own_redis.url, timeout_s=5, patience_s=5) as other:
                    other.rpush("bell", "x")

            with later(0.3, restart_and_push):
                assert redis.blpop(["bell"], timeout=20) == (b"bell", b"x")

    def test_a_master_that_became_a_replica_is_tried_again(self, redis_server: EmbeddedRedis, own_redis: EmbeddedRedis) -> None:
        with (
            connect(url=own_redis.url, timeout_s=5, patience_s=60) as redis,
            connect(url=own_redis.url, timeout_s=5, patience_s=60) as admin,
            connect(url=own_redis.url, timeout_s=5, patience_s=0) as hasty,
        ):
            admin.replicaof("127.0.0.1", redis_server.port)
            with pytest.raises(RedisDown, match="read only"), translated():
                hasty.set("a", 1)
            with later(0.4, lambda: admin.replicaof("NO", "ONE") and None):
                assert redis.set("a", 1)

    @pytest.mark.parametrize(("setting", "full", "roomy"), [("maxmemory", 1, 0), ("min-replicas-to-write", 1, 0)])
    def test_one_that_takes_no_writes_is_waited_for_where_that_is_wanted(
        self, own_redis: EmbeddedRedis, setting: str, full: int, roomy: int
    ) -> None:
        with (
            connect(url=own_redis.url, timeout_s=5, patience_s=60, waits_for_room=True) as redis,
            connect(url=own_redis.url, timeout_s=5, patience_s=60) as others,
        ):
            others.config_set(setting, full)
            with pytest.raises(RedisDown), translated():
                others.set("a", 1)
            with later(0.2, lambda: others.config_set(setting, roomy) and None):
                assert redis.set("a", 1)
            others.config_set(setting, full)
            with later(0.2, lambda: others.config_set(setting, roomy) and None), redis.pipeline(transaction=True) as pipe:
                assert pipe.incr("a").get("a").execute() == [2, b"2"]
            with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"):
                redis.lpush("a", 1)


class TestLogin:
    def test_an_acl_user(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=5) as admin:
            admin.execute_command("ACL", "SETUSER", "vf", "on", f">{SECRET}", "~vf:*", "+@all", "-@dangerous")
        settings = RedisSettings(url=own_redis.url, username="vf", password=SECRET, timeout_s=5, patience_s=5)  # type: ignore[arg-type]
        with connect_from(settings) as redis:
            assert redis.set("vf:a", 1)
            with pytest.raises(ConfigError, match="Redis forbids it"), translated():
                redis.set("other", 1)
            assert SECRET not in f"{redis!r} {redis.connection_pool!r} {settings!r}"

    @pytest.mark.parametrize("password", [None, "wrong"])
    def test_a_refused_login_is_not_tried_again(
        self, tmp_path: Path, password: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with (
            EmbeddedRedis(tmp_path, password=SECRET) as server,
            connect(url=server.url, password=password, timeout_s=5, patience_s=3600) as redis,
            pytest.raises(ConfigError, match="VERIFRAME_REDIS__PASSWORD") as refusal,
            translated(),
        ):
            redis.ping()
        assert "wrong" not in f"{refusal.value} {refusal.value.__cause__!r} {caplog.text}"

    def test_a_unix_socket(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        folder = tmp_path_factory.mktemp("u")
        with (
            EmbeddedRedis(folder, options={"unixsocket": f"{folder}/s"}),
            connect(url=f"unix://{folder}/s?db=3", timeout_s=5, patience_s=5) as redis,
        ):
            assert redis.set("a", 1)
            assert redis.info("keyspace")["db3"]["keys"] == 1


class TestTls:
    """The embedded server is built without TLS, so a proxy in this process speaks it."""

    def test_a_trusted_certificate(self, redis_server: EmbeddedRedis, certificate: Path) -> None:
        with (
            tls_proxy(redis_server.port, certificate) as port,
            connect(url=f"rediss://localhost:{port}/0", tls_ca=certificate / "ca.pem", timeout_s=5, patience_s=5) as redis,
        ):
            assert redis.ping()

    @pytest.mark.parametrize(("host", "trusted"), [("localhost", False), ("127.0.0.1", True)])
    def test_an_untrusted_one_is_refused_at_once(
        self, redis_server: EmbeddedRedis, certificate: Path, host: str, trusted: bool
    ) -> None:
        """By another authority, or for another host."""
        ca = certificate / "ca.pem" if trusted else None
        with (
            tls_proxy(redis_server.port, certificate) as port,
            connect(url=f"rediss://{host}:{port}/0", tls_ca=ca, timeout_s=5, patience_s=3600) as redis,
            pytest.raises(ConfigError, match="not trusted"),
            translated(),
        ):
            redis.ping()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``ca.pem``, and ``cert.pem`` and ``key.pem`` for localhost signed by it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *key, "-keyout", "key.pem", "-out", "cert.csr", "-subj", "/CN=localhost")
    (folder / "san").write_text("subjectAltName=DNS:localhost")
    sign = "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile san"
    openssl(*sign.split(" "))
    return folder


@contextmanager
def tls_proxy(port: int, certificate: Path) -> Iterator[int]:
    """A port of localhost which speaks TLS and passes everything on to ``port``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    threads: list[threading.Thread] = []

    def serve(plain: socket.socket) -> None:
        plain.settimeout(10)
        try:
            with context.wrap_socket(plain, server_side=True) as near, socket.create_connection(("127.0.0.1", port)) as far:
                back = threading.Thread(target=pump, args=(far, near))
                back.start()
                pump(near, far)
                back.join()
        except OSError:
            plain.close()  # the client did not like the certificate

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(plain,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, args=(listener,))
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(60)
                assert not thread.is_alive()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # either side has hung up


class TestTranslated:
    def test_a_full_server(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=0) as redis:
            redis.config_set("maxmemory", 1)
            with pytest.raises(RedisDown, match="full"), translated():
                redis.set("b", 1)

    def test_a_server_that_cannot_save(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=0) as redis:
            redis.config_set("min-replicas-to-write", 1)
            with pytest.raises(RedisDown, match="takes no writes"), translated():
                redis.set("a", 1)
            with pytest.raises(RedisDown, match="takes no writes") as refusal, translated(), redis.pipeline() as pipe:
                pipe.set("a", SECRET).execute()
            assert SECRET not in str(refusal.value)

    def test_what_the_acl_forbids_a_script(self, own_redis: EmbeddedRedis) -> None:
        with connect(url=own_redis.url, timeout_s=5, patience_s=5) as admin:
            admin.execute_command("ACL", "SETUSER", "vf", "on", f">{SECRET}", "~*", "+@all", "-time")
        with connect(url=own_redis.url, username="vf", password=SECRET, timeout_s=5, patience_s=5) as redis:
            clock = redis.register_script("return redis.call('time')")
            with pytest.raises(ConfigError, match="Redis forbids it"), translated():
                clock()

    def test_what_the_acl_of_a_redis_before_7_forbids_a_script(self) -> None:
        words = "@user_script: 1: The user executing the script can't run this command or subcommand"  # of 6.2.14
        with pytest.raises(ConfigError, match="Redis forbids it"), translated():
            raise exceptions.ResponseError(f"Error running script (call to f_{'0f' * 20}): @user_script:1: {words}")

    def test_our_own_faults_pass(self, redis: Redis) -> None:
        redis.set("a", 1)
        with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"), translated():
            redis.lpush("a", 1)
