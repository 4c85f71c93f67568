//! A cable between a node and its segment: a pair of devices, one in the namespace of each. It can lose packets, be cut,
//! be slow, and be plugged in elsewhere.

mod wire;

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};

use crate::lab::{
    namespace::Namespace,
    segment::{Location, Segment},
};
use wire::Wire;

/// Numbers for the far ends of a lab's cables, none of which is given twice.
#[derive(Debug, Default)]
pub(crate) struct Ports(AtomicU16);

impl Ports {
    fn take(&self) -> u16 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Cable {
    node: Arc<Namespace>,
    device: &'static str,
    number: u16,
    segment: Arc<Segment>,
    location: Location,
    wire: Option<Wire>,
}

impl Cable {
    pub(crate) fn plug(
        ports: &Ports,
        node: &Arc<Namespace>,
        device: &'static str,
        segment: &Arc<Segment>,
    ) -> Result<Self> {
        let number = ports.take();
        let location = segment.allot()?;
        let cable = Self {
            node: Arc::clone(node),
            device,
            number,
            segment: Arc::clone(segment),
            location,
            wire: None,
        };
        cable.node.ip(&format!(
            "link add {device} address {} type veth peer address {} name {} netns {}",
            cable.hardware(),
            cable.far_hardware(),
            cable.port(),
            cable.segment.namespace().path(),
        ))?;
        cable.connect()?;
        Ok(cable)
    }

    pub(crate) fn location(&self) -> Location {
        self.location
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Plugs it in elsewhere, or anew, with another address. Whatever was wrong with it is mended by that.
    pub(crate) fn replug(&mut self, segment: &Arc<Segment>) -> Result<()> {
        self.heal()?;
        self.quicken()?;
        let (far, port) = (self.segment.namespace(), self.port());
        self.node.ip(&format!("addr flush dev {}\nlink set {} down", self.device, self.device))?;
        far.ip(&format!("addr flush dev {port}\nlink set {port} nomaster"))?;
        if !Arc::ptr_eq(far, segment.namespace()) {
            far.ip(&format!("link set {port} netns {}", segment.namespace().path()))?;
        }
        self.segment = Arc::clone(segment);
        self.location = segment.allot()?;
        self.connect()
    }

    /// Each packet is lost with this probability in percent, each way.
    pub(crate) fn lose(&self, percent: u8) -> Result<()> {
        // Whole packets: what the kernel carries in one piece would be lost in one.
        self.node.ip(&format!("link set {} gso_max_segs 1", self.device))?;
        self.filter(&format!("numgen random mod 100 < {percent} drop"))
    }

    /// A silent hole: the link stays up, and nothing passes.
    pub(crate) fn cut(&self) -> Result<()> {
        self.filter("drop")
    }

    /// Undoes [`Self::lose`] and [`Self::cut`].
    pub(crate) fn heal(&self) -> Result<()> {
        for namespace in [&self.node, self.segment.namespace()] {
            let table = self.table();
            namespace.nft(&format!("table netdev {table}\ndelete table netdev {table}\n"))?;
        }
        Ok(())
    }

    /// Every packet takes this long, each way. Undoes whatever else was wrong with the cable.
    pub(crate) fn delay(&mut self, by: Duration) -> Result<()> {
        self.heal()?;
        self.quicken()?;
        let (far, port) = (self.segment.namespace(), self.port());
        let (outer, inner) = (self.outer(), format!("u{}", self.number));
        far.ip(&format!(
            "addr flush dev {port}\nlink set {port} nomaster\n\
             link add {outer} address {} type veth peer name {inner}\nlink set {inner} up",
            self.far_hardware(),
        ))?;
        // The wire takes what comes in at either; the kernel itself must not.
        far.nft(&format!(
            "table netdev {outer} {{\n{}{}}}\n",
            ingress(&port, "drop"),
            ingress(&inner, "drop")
        ))?;
        // It carries packets as they are on a wire: whole, each with its checksum.
        for (namespace, device) in [(&self.node, self.device), (far, outer.as_str())] {
            namespace.run(Command::new("ethtool").args(["-K", device, "tx", "off"]))?;
        }
        self.segment.home(&outer, self.location, &self.hardware())?;
        self.wire = Some(Wire::start(far, &port, &inner, by)?);
        Ok(())
    }

    /// Takes the wire out. The far end then has no place on the segment.
    fn quicken(&mut self) -> Result<()> {
        if self.wire.take().is_none() {
            return Ok(());
        }
        let (far, outer) = (self.segment.namespace(), self.outer());
        far.nft(&format!("delete table netdev {outer}\n"))?;
        far.ip(&format!("link del {outer}"))
    }

    /// Gives both ends what belongs to the location.
    fn connect(&self) -> Result<()> {
        self.segment.home(&self.port(), self.location, &self.hardware())?;
        let (device, subnet) = (self.device, self.location.subnet);
        let mut lines = format!(
            "addr add {}/24 brd + dev {device}\nlink set {device} up\nroute replace default via {} dev {device}\n",
            self.location.address(),
            subnet.address(1),
        );
        if let Some(address) = self.location.address6() {
            lines += &format!(
                "addr add {address}/64 dev {device} nodad\nroute replace ::/0 via {} dev {device}\n",
                subnet.address6(1),
            );
        }
        self.node.ip(&lines)?;
        self.node.inside(|| await_neighbour(subnet.address(1)))
    }

    /// Applies a rule to whatever comes in at either end.
    fn filter(&self, rule: &str) -> Result<()> {
        self.heal()?;
        let far = if self.wire.is_some() { self.outer() } else { self.port() };
        for (namespace, device) in [(&self.node, self.device), (self.segment.namespace(), far.as_str())] {
            namespace.nft(&format!("table netdev {} {{\n{}}}\n", self.table(), ingress(device, rule)))?;
        }
        Ok(())
    }

    fn outer(&self) -> String {
        format!("t{}", self.number)
    }

    fn port(&self) -> String {
        format!("p{}", self.number)
    }

    fn table(&self) -> String {
        format!("cable{}", self.number)
    }

    fn hardware(&self) -> String {
        hardware(0, self.number)
    }

    /// The far end keeps its own whichever device it is: neighbours remember it.
    fn far_hardware(&self) -> String {
        hardware(1, self.number)
    }
}

fn hardware(end: u8, number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("02:00:00:{end:02x}:{high:02x}:{low:02x}")
}

/// A chain that applies a rule to what comes in at a device.
fn ingress(device: &str, rule: &str) -> String {
    format!("chain {device} {{\ntype filter hook ingress device \"{device}\" priority 0\n{rule}\n}}\n")
}

/// Waits until a neighbour answers, if only that it has no such port: the kernel takes up to a second to let packets
/// through a device that has just come up.
fn await_neighbour(address: Ipv4Addr) -> Result<()> {
    const ANSWER: Duration = Duration::from_millis(20);
    const TRIES: u32 = 250;
    for _ in 0..TRIES {
        match TcpStream::connect_timeout(&(address, 9).into(), ANSWER) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            Ok(_) | Err(_) => {}
        }
    }
    bail!("{address} does not answer in {:?}", ANSWER * TRIES)
}
