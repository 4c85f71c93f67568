//! The product on networks as they are: NAT of every kind, lost packets, cables that are cut, addresses that change.
//! Each test has a small internet of its own, made of the kernel's network namespaces; see [`lab`].
//!
//! They need root (or `unshare -Urn`), `ip`, `nft` and `ethtool`; a test that cannot have its lab fails and says why.

#![cfg(target_os = "linux")]

mod direct;
mod lab;
mod link;
mod nat;
mod pair;
mod pairing;
mod pairing_false;
mod probe;
mod selftest;
mod survival;
mod world;
