//! What a large file takes: time, and memory that does not grow with it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::{Files, content, has_offer, until};
use crate::pair::Agent;

/// What the process of a daemon has taken of memory at most, in KiB.
fn memory(agent: &Agent) -> u64 {
    let config = agent.0.path("config");
    let is_its = |path: &Path| {
        let read = |name: &str| fs::read(path.join(name)).unwrap_or_default();
        let environment = read("environ");
        let contains = |all: &[u8], part: &[u8]| all.windows(part.len()).any(|window| window == part);
        contains(&read("cmdline"), b"pair\0daemon")
            && contains(&environment, config.to_str().unwrap().as_bytes())
    };
    let mut processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let status = fs::read_to_string(processes.find(|path| is_its(path)).unwrap().join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "moves 1 GiB twice and prints what that takes"]
fn a_gibibyte_takes_little_memory() {
    let [host, bob, cy] = [(); 3].map(|()| Agent::new());
    let (_, invites) = host.open(&["--name", "ada", "--invites", "2"]);
    bob.join_as("bob", &invites[0]).succeeded();
    cy.join_as("cy", &invites[1]).succeeded();
    let path = bob.project().join("large.bin");
    let mut file = fs::File::create(&path).unwrap();
    let part = content(16 << 20);
    for number in 0..64_u8 {
        file.write_all(&[number]).unwrap();
        file.write_all(&part[1..]).unwrap();
    }
    let before = [&host, &bob, &cy].map(memory);
    let began = Instant::now();
    let shared = bob.run_there(&["share", "--max-size", "1G", "large.bin"]).succeeded().json();
    println!("read and offered in {:.1} s", began.elapsed().as_secs_f64());
    for (who, agent) in [("the host, from bob", &host), ("cy, from bob through the host", &cy)] {
        until("it is offered", || has_offer(agent, &shared["offer"]));
        let began = Instant::now();
        let offer = shared["offer"].to_string();
        let received = agent.run_there(&["receive", "--max-size", "1G", &offer]).succeeded().json();
        let took = began.elapsed().as_secs_f64();
        assert_eq!(received["sha256"], shared["sha256"]);
        println!("{who}: {took:.1} s, {:.0} MiB/s", 1024.0 / took);
    }
    let after = [&host, &bob, &cy].map(memory);
    for ((who, before), after) in ["host", "bob", "cy"].iter().zip(before).zip(after) {
        println!("memory of {who}: {before} KiB before, {after} KiB at most");
        assert!(after - before < 100 * 1024, "{who} grew by {} KiB", after - before);
    }
}
