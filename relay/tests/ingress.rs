//! The ingress from the outside: real TCP visitors, pipes over in-memory streams, origins in the test.

#![cfg(test)]

#[path = "ingress/house.rs"]
mod house;

#[path = "ingress/backends.rs"]
mod backends;
#[path = "ingress/bodies.rs"]
mod bodies;
#[path = "ingress/closing.rs"]
mod closing;
#[path = "ingress/domains.rs"]
mod domains;
#[path = "ingress/downloads.rs"]
mod downloads;
#[path = "ingress/framing.rs"]
mod framing;
#[path = "ingress/gates.rs"]
mod gates;
#[path = "ingress/gates_of_all_kinds.rs"]
mod gates_of_all_kinds;
#[path = "ingress/half_open.rs"]
mod half_open;
#[path = "ingress/http2.rs"]
mod http2;
#[path = "ingress/http2_limits.rs"]
mod http2_limits;
#[path = "ingress/http2_visitor.rs"]
mod http2_visitor;
#[path = "ingress/http2_websocket.rs"]
mod http2_websocket;
#[path = "ingress/inside.rs"]
mod inside;
#[path = "ingress/interim.rs"]
mod interim;
#[path = "ingress/passthrough.rs"]
mod passthrough;
#[path = "ingress/pooling.rs"]
mod pooling;
#[path = "ingress/proxies.rs"]
mod proxies;
#[path = "ingress/resets.rs"]
mod resets;
#[path = "ingress/routing.rs"]
mod routing;
#[path = "ingress/silence.rs"]
mod silence;
#[path = "ingress/smuggling.rs"]
mod smuggling;
#[path = "ingress/smuggling_http2.rs"]
mod smuggling_http2;
#[path = "ingress/tls.rs"]
mod tls;
#[path = "ingress/upgrades.rs"]
mod upgrades;
#[path = "ingress/uploads.rs"]
mod uploads;
