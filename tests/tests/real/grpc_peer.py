"""Both ends of gRPC calls of every kind: `serve` prints its port, `serve-tls CERT KEY` too, `call ADDRESS AUTHORITY` prints ok."""
import hashlib
import sys
import threading
from concurrent import futures

import grpc


def raw(bytes_):
    return bytes_


class Calls(grpc.GenericRpcHandler):
    def service(self, details):
        kinds = {
            "/t.T/Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "/t.T/Down": (grpc.unary_stream_rpc_method_handler, self.down),
            "/t.T/Up": (grpc.stream_unary_rpc_method_handler, self.up),
            "/t.T/Both": (grpc.stream_stream_rpc_method_handler, self.both),
            "/t.T/Fails": (grpc.unary_unary_rpc_method_handler, self.fails),
        }
        kind = kinds.get(details.method)
        return kind and kind[0](kind[1], request_deserializer=raw, response_serializer=raw)

    def unary(self, request, context):
        context.set_trailing_metadata((("t-bin", b"\x00\xff"),))
        return request

    def down(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def up(self, requests, context):
        digest = hashlib.sha256()
        for request in requests:
            digest.update(request)
        return digest.digest()

    def both(self, requests, context):
        for request in requests:
            yield request[::-1]

    def fails(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today \u2603")


def serve(credentials=None):
    server = grpc.server(futures.ThreadPoolExecutor(16), handlers=[Calls()])
    port = server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def call(address, authority):
    options = [("grpc.default_authority", authority)]
    with grpc.insecure_channel(address, options=options) as channel:
        unary = channel.unary_unary("/t.T/Unary", raw, raw)
        large = bytes(range(256)) * 12_000
        answer, done = unary.with_call(large, timeout=30)
        assert answer == large
        assert dict(done.trailing_metadata())["t-bin"] == b"\x00\xff"
        down = channel.unary_stream("/t.T/Down", raw, raw)
        assert [int(one) for one in down(b"500", timeout=30)] == list(range(500))
        up = channel.stream_unary("/t.T/Up", raw, raw)
        pieces = [bytes([number % 256]) * 1000 for number in range(3000)]
        assert up(iter(pieces), timeout=30) == hashlib.sha256(b"".join(pieces)).digest()
        both = channel.stream_stream("/t.T/Both", raw, raw)
        # Each answer is waited for before the next question: nothing may be held back.
        heard = threading.Semaphore(1)

        def questions():
            for number in range(100):
                assert heard.acquire(timeout=10), "an answer did not come"
                yield b"%d!" % number

        answers = []
        for answer in both(questions(), timeout=60):
            answers.append(answer)
            heard.release()
        assert answers == [(b"%d!" % number)[::-1] for number in range(100)]
        try:
            channel.unary_unary("/t.T/Fails", raw, raw)(b"", timeout=30)
            raise AssertionError("it did not fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert error.details() == "not today \u2603", error
        try:
            channel.unary_unary("/t.T/None", raw, raw)(b"", timeout=30)
            raise AssertionError("it did not fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
        with futures.ThreadPoolExecutor(16) as many:
            for answer in many.map(lambda number: unary(b"%d" % number, timeout=30), range(200)):
                int(answer)
    print("ok", flush=True)


if sys.argv[1] == "serve":
    serve()
elif sys.argv[1] == "serve-tls":
    certificate, key = (open(path, "rb").read() for path in sys.argv[2:4])
    serve(grpc.ssl_server_credentials([(key, certificate)]))
else:
    call(*sys.argv[2:4])
