"""A collector of traces, by OpenTelemetry's own definition of OTLP: prints its port, then each span as a line of JSON."""

import http.server
import json

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces", self.path
        assert self.headers["content-type"] == "application/x-protobuf", self.headers
        request = otlp.ExportTraceServiceRequest.FromString(body)
        answer = otlp.ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        for resource in request.resource_spans:
            about = attributes(resource.resource)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    told = {
                        "service": about["service.name"], "name": span.name, "kind": span.kind,
                        "trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                        "status": span.status.code, "attributes": attributes(span),
                        "key": self.headers.get("x-key"),
                        "took": span.end_time_unix_nano - span.start_time_unix_nano,
                    }
                    print(json.dumps(told), flush=True)

    def log_message(self, *_):
        pass


def attributes(of):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
print(server.server_address[1], flush=True)
server.serve_forever()
