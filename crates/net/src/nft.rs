//! nftables through netlink: a transaction (`Batch`) of tables, chains, sets, maps, elements and rules. The kernel
//! carries out all of a batch or nothing. Rules are written as the kernel's own expressions over registers; each
//! method of [`Rule`] is one expression.

use crate::netlink::{APPEND, Body, CREATE, Messages, Refused, Socket};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;

const SET_IS_MAP: u32 = 0x8;
const SET_HAS_TIMEOUT: u32 = 0x10;
const SET_IS_DYNAMIC: u32 = 0x20;
const DATA_IS_VERDICT: u32 = 0xffff_ff00;
/// An attribute's length is 16 bits wide, so the elements of one message must stay below that.
const ELEMENTS_BYTES_MAX: usize = 60_000;

/// The first of the sixteen 4-byte registers.
pub const REG: u32 = 8;
const REG_VERDICT: u32 = 0;

/// Types of a key's or a value's fields, as `nft list` names them.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    Ipv4,
    Protocol,
    Port,
    /// `mark`: a 32-bit number in the machine's order.
    Number,
}

impl Field {
    fn type_id(self) -> u32 {
        match self {
            Field::Ipv4 => 7,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Number => 19,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum SetKind {
    Set,
    Map(&'static [Field]),
    VerdictMap,
    /// Filled by rules; an element lives so many milliseconds after its last use.
    Dynamic {
        timeout_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Ends this base chain; others at the same hook go on.
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What an element of a map leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    None,
    Bytes(Vec<u8>),
    Verdict(Verdict),
}

pub struct Batch {
    table: String,
    messages: Messages,
    set_id: u32,
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

impl Batch {
    pub fn new(table: &str) -> Batch {
        let mut messages = Messages::new();
        messages.push(BATCH_BEGIN, 0, |body| body.raw(&header(0, SUBSYSTEM)));
        Batch { table: table.to_owned(), messages, set_id: 0 }
    }

    fn push(&mut self, message: u16, flags: u16, build: impl FnOnce(&mut Body<'_>)) {
        self.messages.push(SUBSYSTEM << 8 | message, flags, |body| {
            body.raw(&header(libc::NFPROTO_IPV4 as u8, 0));
            build(body);
        });
    }

    /// Nothing has been asked for yet.
    pub fn is_empty(&self) -> bool {
        self.messages.len() == 1
    }

    /// The table, empty, whatever was in it.
    pub fn fresh_table(&mut self) {
        self.delete_table();
        let table = self.table.clone();
        self.push(NEW_TABLE, CREATE, |body| body.text(1, &table));
    }

    /// Also when there is none: it is made first.
    pub fn delete_table(&mut self) {
        let table = self.table.clone();
        self.push(NEW_TABLE, CREATE, |body| body.text(1, &table));
        self.push(DELETE_TABLE, 0, |body| body.text(1, &table));
    }

    pub fn base_chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        let table = self.table.clone();
        self.push(NEW_CHAIN, CREATE, |body| {
            body.text(1, &table);
            body.text(3, name);
            body.nest(4, |body| {
                body.net_u32(1, hook as u32);
                body.net_u32(2, priority as u32);
            });
            body.text(7, kind);
        });
    }

    pub fn chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.push(NEW_CHAIN, CREATE, |body| {
            body.text(1, &table);
            body.text(3, name);
        });
    }

    pub fn delete_chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.push(DELETE_CHAIN, 0, |body| {
            body.text(1, &table);
            body.text(3, name);
        });
    }

    pub fn flush_chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.push(DELETE_RULE, 0, |body| {
            body.text(1, &table);
            body.text(2, name);
        });
    }

    pub fn rule(&mut self, chain: &str, build: impl FnOnce(&mut Rule<'_, '_>)) {
        let table = self.table.clone();
        self.push(NEW_RULE, CREATE | APPEND, |body| {
            body.text(1, &table);
            body.text(2, chain);
            body.nest(4, |body| build(&mut Rule { body }));
        });
    }

    pub fn set(&mut self, name: &str, key: &[Field], kind: SetKind) {
        let table = self.table.clone();
        self.set_id += 1;
        let id = self.set_id;
        let concatenated = |fields: &[Field]| fields.iter().fold(0, |id, field| id << 6 | field.type_id());
        let flags = match kind {
            SetKind::Set => 0,
            SetKind::Map(_) | SetKind::VerdictMap => SET_IS_MAP,
            SetKind::Dynamic { .. } => SET_HAS_TIMEOUT | SET_IS_DYNAMIC,
        };
        self.push(NEW_SET, CREATE, |body| {
            body.text(1, &table);
            body.text(2, name);
            body.net_u32(3, flags);
            body.net_u32(4, concatenated(key));
            body.net_u32(5, 4 * key.len() as u32);
            body.net_u32(10, id);
            match kind {
                SetKind::Set => {}
                SetKind::Map(data) => {
                    body.net_u32(6, concatenated(data));
                    body.net_u32(7, 4 * data.len() as u32);
                }
                SetKind::VerdictMap => {
                    body.net_u32(6, DATA_IS_VERDICT);
                    body.net_u32(7, 16);
                }
                SetKind::Dynamic { timeout_ms } => body.attr(11, &timeout_ms.to_be_bytes()),
            }
        });
    }

    pub fn delete_set(&mut self, name: &str) {
        let table = self.table.clone();
        self.push(DELETE_SET, 0, |body| {
            body.text(1, &table);
            body.text(2, name);
        });
    }

    pub fn add_elements<'e>(&mut self, set: &str, elements: impl IntoIterator<Item = (&'e [u8], &'e Value)>) {
        self.elements(NEW_ELEMENT, CREATE, set, elements);
    }

    pub fn delete_elements<'e>(&mut self, set: &str, elements: impl IntoIterator<Item = (&'e [u8], &'e Value)>) {
        self.elements(DELETE_ELEMENT, 0, set, elements);
    }

    fn elements<'e>(
        &mut self,
        message: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = (&'e [u8], &'e Value)>,
    ) {
        let table = self.table.clone();
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let mut size = 0;
            self.push(message, flags, |body| {
                body.text(1, &table);
                body.text(2, set);
                body.nest(3, |body| {
                    while let Some((key, value)) = elements.next_if(|_| size < ELEMENTS_BYTES_MAX) {
                        size += element(body, key, value);
                    }
                });
            });
        }
    }

    /// Carries the whole batch out, or none of it.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), Refused> {
        self.messages.push(BATCH_END, 0, |body| body.raw(&header(0, SUBSYSTEM)));
        socket.batch(self.messages)
    }
}

/// Writes one element; an upper bound of its size is the answer.
fn element(body: &mut Body<'_>, key: &[u8], value: &Value) -> usize {
    body.nest(1, |body| {
        body.nest(1, |body| body.attr(1, key));
        match value {
            Value::None => {}
            Value::Bytes(bytes) => body.nest(2, |body| body.attr(1, bytes)),
            Value::Verdict(verdict) => body.nest(2, |body| write_verdict(body, verdict)),
        }
    });
    96 + key.len()
        + match value {
            Value::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.len(),
            _ => 32,
        }
}

fn write_verdict(body: &mut Body<'_>, verdict: &Verdict) {
    let (code, chain): (i32, Option<&str>) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Drop => (0, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    body.nest(2, |body| {
        body.net_u32(1, code as u32);
        if let Some(chain) = chain {
            body.text(2, chain);
        }
    });
}

/// What `meta`, `ct` and the headers of a packet can be asked for.
#[derive(Clone, Copy, Debug)]
pub enum Meta {
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    L4Protocol = 16,
}

#[derive(Clone, Copy, Debug)]
pub enum Address {
    Source,
    Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// The expressions of one rule, in order. A comparison or lookup that fails ends the rule.
pub struct Rule<'a, 'b> {
    body: &'a mut Body<'b>,
}

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, build: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        self.body.nest(1, |body| {
            body.text(1, name);
            body.nest(2, build);
        });
        self
    }

    /// Loads the packet's IPv4 source or destination.
    pub fn address(&mut self, which: Address, register: u32) -> &mut Self {
        let offset = match which {
            Address::Source => 12,
            Address::Destination => 16,
        };
        self.payload(1, offset, 4, register)
    }

    /// Loads the transport header's destination port.
    pub fn destination_port(&mut self, register: u32) -> &mut Self {
        self.payload(2, 2, 2, register)
    }

    /// `base` is 1 for the network header and 2 for the transport header.
    pub fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) -> &mut Self {
        self.expression("payload", |body| {
            body.net_u32(1, register);
            body.net_u32(2, base);
            body.net_u32(3, offset);
            body.net_u32(4, length);
        })
    }

    pub fn meta(&mut self, key: Meta, register: u32) -> &mut Self {
        self.expression("meta", |body| {
            body.net_u32(1, register);
            body.net_u32(2, key as u32);
        })
    }

    pub fn set_meta(&mut self, key: Meta, register: u32) -> &mut Self {
        self.expression("meta", |body| {
            body.net_u32(2, key as u32);
            body.net_u32(3, register);
        })
    }

    pub fn compare(&mut self, register: u32, how: Compare, with: &[u8]) -> &mut Self {
        self.expression("cmp", |body| {
            body.net_u32(1, register);
            body.net_u32(2, how as u32);
            body.nest(3, |body| body.attr(1, with));
        })
    }

    /// `register = register & mask ^ xor`.
    pub fn mask(&mut self, register: u32, mask: &[u8], xor: &[u8]) -> &mut Self {
        self.expression("bitwise", |body| {
            body.net_u32(1, register);
            body.net_u32(2, register);
            body.net_u32(3, mask.len() as u32);
            body.nest(4, |body| body.attr(1, mask));
            body.nest(5, |body| body.attr(1, xor));
        })
    }

    /// `ct status` has these bits.
    pub fn connection_status(&mut self, bits: u32) -> &mut Self {
        self.connection_has(2, bits)
    }

    /// `ct state` is one of these bits.
    pub fn connection_state(&mut self, bits: u32) -> &mut Self {
        self.connection_has(0, bits)
    }

    fn connection_has(&mut self, key: u32, bits: u32) -> &mut Self {
        self.expression("ct", |body| {
            body.net_u32(1, REG);
            body.net_u32(2, key);
        });
        self.mask(REG, &bits.to_ne_bytes(), &[0; 4]);
        self.compare(REG, Compare::NotEqual, &[0; 4])
    }

    /// `fib saddr|daddr type local`.
    pub fn is_local(&mut self, which: Address) -> &mut Self {
        self.expression("fib", |body| {
            body.net_u32(1, REG);
            body.net_u32(2, 3);
            body.net_u32(
                3,
                match which {
                    Address::Source => 1,
                    Address::Destination => 2,
                },
            );
        });
        self.compare(REG, Compare::Equal, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The packet's address is, or is not, in an IPv4 range.
    pub fn in_range(&mut self, which: Address, range: netplan::Cidr, how: Compare) -> &mut Self {
        let std::net::IpAddr::V4(address) = range.address() else {
            // A table of the `ip` family never sees such a packet: compare with what no address is.
            return self.meta(Meta::L4Protocol, REG).compare(REG, Compare::Equal, &[255]);
        };
        let mask = u32::MAX.checked_shl(32 - u32::from(range.prefix())).unwrap_or(0);
        self.address(which, REG);
        self.mask(REG, &mask.to_be_bytes(), &[0; 4]);
        self.compare(REG, how, &address.octets())
    }

    pub fn interface(&mut self, key: Meta, name: &str, how: Compare) -> &mut Self {
        let mut padded = [0; 16];
        padded[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
        self.meta(key, REG).compare(REG, how, &padded)
    }

    pub fn random_below(&mut self, modulus: u32, register: u32) -> &mut Self {
        self.expression("numgen", |body| {
            body.net_u32(1, register);
            body.net_u32(2, modulus);
            body.net_u32(3, 1);
            body.net_u32(4, 0);
        })
    }

    /// The key starting at a register is in the set.
    pub fn in_set(&mut self, set: &str, register: u32) -> &mut Self {
        self.expression("lookup", |body| {
            body.text(1, set);
            body.net_u32(2, register);
        })
    }

    /// Loads the map's value for the key starting at a register.
    pub fn map_lookup(&mut self, map: &str, key: u32, value: u32) -> &mut Self {
        self.expression("lookup", |body| {
            body.text(1, map);
            body.net_u32(2, key);
            body.net_u32(3, value);
        })
    }

    /// Carries out the map's verdict for the key starting at a register.
    pub fn verdict_from(&mut self, map: &str, key: u32) -> &mut Self {
        self.map_lookup(map, key, REG_VERDICT)
    }

    /// Puts the key into a dynamic set or lengthens its life there.
    pub fn refresh_in(&mut self, set: &str, key: u32) -> &mut Self {
        self.expression("dynset", |body| {
            body.text(1, set);
            body.net_u32(3, 1);
            body.net_u32(4, key);
        })
    }

    pub fn load(&mut self, register: u32, bytes: &[u8]) -> &mut Self {
        self.expression("immediate", |body| {
            body.net_u32(1, register);
            body.nest(2, |body| body.attr(1, bytes));
        })
    }

    pub fn verdict(&mut self, verdict: &Verdict) -> &mut Self {
        self.expression("immediate", |body| {
            body.net_u32(1, REG_VERDICT);
            body.nest(2, |body| write_verdict(body, verdict));
        })
    }

    /// Sends the connection to the IPv4 address in one register and the port in the next.
    pub fn destination_nat(&mut self, register: u32) -> &mut Self {
        self.expression("nat", |body| {
            body.net_u32(1, 1);
            body.net_u32(2, libc::NFPROTO_IPV4 as u32);
            body.net_u32(3, register);
            body.net_u32(5, register + 1);
        })
    }

    /// With a random source port, as parallel connections to one place would else fight for the same.
    pub fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |body| body.net_u32(1, 0x10))
    }

    /// Refuses with ICMP port unreachable.
    pub fn reject(&mut self) -> &mut Self {
        self.expression("reject", |body| {
            body.net_u32(1, 0);
            body.attr(2, &[3]);
        })
    }

    /// Loads `ip daddr . meta l4proto . th dport` into three registers.
    pub fn destination_key(&mut self, register: u32) -> &mut Self {
        self.address(Address::Destination, register);
        self.port_key(register + 1)
    }

    /// Loads `meta l4proto . th dport` into two registers.
    pub fn port_key(&mut self, register: u32) -> &mut Self {
        self.meta(Meta::L4Protocol, register);
        self.destination_port(register + 1)
    }
}

/// Whether a table of the `ip` family is there.
#[cfg(test)]
pub fn table_exists(socket: &mut Socket, table: &str) -> Result<bool, Refused> {
    let found = socket.ask(SUBSYSTEM << 8 | 1, 0, |body| {
        body.raw(&header(libc::NFPROTO_IPV4 as u8, 0));
        body.text(1, table);
    });
    match found {
        Ok(answers) => Ok(!answers.is_empty()),
        Err(Refused { errno: nix::errno::Errno::ENOENT, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
