use mytunnel_keys::wire::ToNode;

use super::*;
use crate::renewal::{Life, OwnCertificate};

/// A certificate of the relay that lives for so long from the start of the desk.
pub(super) fn own(bytes: &[u8], life: u64) -> OwnCertificate {
    OwnCertificate { bytes: bytes.to_vec(), life: Life { from: NOW, until: NOW + life } }
}

fn shown(commands: &[Command]) -> Vec<&[u8]> {
    let welcomes = commands.iter().filter_map(|command| match command {
        Command::Send { message: ToNode::Welcome { certificate, .. }, .. } => Some(certificate.as_slice()),
        _ => None,
    });
    welcomes.collect()
}

impl Desk {
    fn renew(&mut self, certificate: OwnCertificate) -> Vec<Command> {
        self.admission.handle_certificate(certificate, self.now());
        self.commands()
    }

    /// The answer to somebody new.
    fn knock(&mut self, number: u8) -> Option<Code> {
        let credential = Credential::issue(number, child_claims(number, NOW));
        let connection = self.connect(&credential);
        code_of(&self.hello(connection, &credential.certificate))
    }
}

#[test]
fn a_relay_whose_certificate_has_ended_takes_nothing_until_there_is_a_new_one() {
    let mut desk = Desk::open();
    desk.renew(own(b"short", 600));
    let inside = desk.enter(&Credential::issue(1, child_claims(1, NOW)));
    desk.serve(inside, "web", 1);
    desk.wait(599);
    desk.heartbeat();
    assert_eq!(desk.knock(2), None);
    desk.wait(1);
    desk.heartbeat();
    assert_eq!(desk.knock(3), Some(Code::RelayStale));
    assert_eq!(code_of(&desk.register(inside, "pr-1", 1)), Some(Code::RelayStale));
    assert_eq!(desk.admission.status().certificate_ends, NOW + 600);
    assert!(desk.admission.status().tunnels > 0, "what stands, stands for as long as its node believes it");

    desk.renew(own(b"longer", 1200));
    assert_eq!(desk.knock(4), None);
    assert_eq!(desk.admission.status().certificate_ends, NOW + 1200);
}

#[test]
fn nodes_that_are_connected_are_shown_the_new_certificate_and_newcomers_too() {
    let mut desk = Desk::open();
    let (first, second) =
        (Credential::issue(1, child_claims(1, NOW)), Credential::issue(2, child_claims(2, NOW)));
    desk.enter(&first);
    desk.enter(&second);
    let stranger = desk.connect(&Credential::issue(3, child_claims(3, NOW)));
    let commands = desk.renew(own(b"second", 600));
    assert_eq!(shown(&commands), [b"second", b"second"]);
    assert_eq!(commands.len(), 2, "nothing else happens, and nothing to the stranger: {commands:?}");
    let third = Credential::issue(3, child_claims(3, NOW));
    assert_eq!(shown(&desk.hello(stranger, &third.certificate)), [b"second"]);
}

#[test]
fn a_relay_that_was_cast_out_takes_nothing_until_it_is_counted_in_again() {
    let mut desk = Desk::open();
    desk.admission.handle_expelled();
    assert!(desk.admission.status().expelled);
    assert_eq!(desk.knock(1), Some(Code::RelayStale));
    desk.snapshot(&[]);
    assert_eq!(desk.knock(2), None, "the coordinator lets it follow the feed");
    desk.admission.handle_expelled();
    desk.renew(own(b"again", 600));
    assert_eq!(desk.knock(3), None, "the coordinator has renewed it");
}
