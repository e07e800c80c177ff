//! Remarks on a packet capture besides its rows: packets left out and why, resets that were ignored, clocks that were corrected.
//! Counted for each file, and written as text.

use std::collections::BTreeMap;

use etherparse::IpNumber;

use crate::format::record::About;
use crate::human::count;

/// Different subjects of one file. Numbers come from captured bytes, so there may be any.
const MAX_KINDS: usize = 4096;
/// Protocols that are named one by one.
const MAX_NAMED: usize = 12;

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub about: About,
    /// Of a protocol or a link type; 0 where there is none.
    pub number: u32,
}

impl Subject {
    /// A subject with a number.
    pub fn new(about: About, number: impl Into<u32>) -> Self {
        Subject {
            about,
            number: number.into(),
        }
    }
}

impl From<About> for Subject {
    fn from(about: About) -> Self {
        Subject { about, number: 0 }
    }
}

/// Numbers of packets with remarks, by subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks(BTreeMap<Subject, u64>);

impl Remarks {
    /// Adds this number of packets.
    pub fn add(&mut self, mut subject: Subject, packets: u64) {
        if self.0.len() >= MAX_KINDS && !self.0.contains_key(&subject) {
            subject.number = 0;
        }
        let sum = self.0.entry(subject).or_default();
        *sum = sum.saturating_add(packets);
    }

    /// Adds those of another.
    pub fn merge(&mut self, other: &Remarks) {
        other.iter().for_each(|(subject, packets)| self.add(subject, packets));
    }

    /// Each subject with its packets.
    pub fn iter(&self) -> impl Iterator<Item = (Subject, u64)> + '_ {
        self.0.iter().map(|(subject, packets)| (*subject, *packets))
    }

    /// Packets with remarks of this kind, over all numbers.
    pub fn count(&self, about: About) -> u64 {
        let these = self.iter().filter(|(subject, _)| subject.about == about);
        these.fold(0, |sum, (_, packets)| sum.saturating_add(packets))
    }

    /// Packets of other protocols than TCP.
    pub fn not_tcp(&self) -> u64 {
        self.sum_of(is_other_protocol)
    }

    /// Packets and blocks that were not understood.
    pub fn not_understood(&self) -> u64 {
        self.sum_of(About::is_cause)
    }

    fn sum_of(&self, is_counted: fn(About) -> bool) -> u64 {
        let these = self.iter().filter(|(subject, _)| is_counted(subject.about));
        these.fold(0, |sum, (_, packets)| sum.saturating_add(packets))
    }

    /// What was added since an earlier copy of these remarks.
    pub fn since<'r>(&'r self, before: &'r Remarks) -> impl Iterator<Item = (Subject, u64)> + 'r {
        self.iter()
            .map(|(subject, packets)| {
                (
                    subject,
                    packets - before.0.get(&subject).copied().unwrap_or(0).min(packets),
                )
            })
            .filter(|(_, packets)| *packets > 0)
    }

    /// The lines of text.
    pub fn lines(&self) -> Vec<String> {
        let list = |is_counted: fn(About) -> bool, what: &str| {
            let these = self.iter().filter(|(subject, _)| is_counted(subject.about));
            list(
                these.map(|(subject, packets)| (detail(subject), packets)).collect(),
                what,
            )
        };
        let lists = [
            list(|about| about == About::Frames, ""),
            list(is_other_protocol, " not of TCP"),
            list(About::is_cause, " not understood"),
        ];
        let single = self
            .iter()
            .filter_map(|(subject, packets)| sentence(subject.about, packets));
        lists.into_iter().flatten().chain(single).collect()
    }
}

fn is_other_protocol(about: About) -> bool {
    use About::*;
    matches!(
        about,
        IpProtocol | EtherType | Llc | Nlpid | PppProtocol | AddressFamily | Wifi
    )
}

/// `1 packet`, `1,203 packets`.
fn packets(number: u64) -> String {
    match number {
        1 => "1 packet".to_string(),
        number => format!("{} packets", count(number)),
    }
}

/// `1,203 packets not of TCP: UDP 1,200, ARP 3`; the most frequent first.
fn list(mut all: Vec<(String, u64)>, what: &str) -> Option<String> {
    let sum = |some: &[(String, u64)]| some.iter().fold(0u64, |sum, (_, packets)| sum.saturating_add(*packets));
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if sum(&all) == 0 {
        return None;
    }
    let (shown, rest) = all.split_at(all.len().min(MAX_NAMED));
    let mut named: Vec<String> = shown
        .iter()
        .map(|(name, number)| format!("{name} {}", count(*number)))
        .collect();
    if !rest.is_empty() {
        named.push(format!("others {}", count(sum(rest))));
    }
    Some(format!("{}{what}: {}", packets(sum(&all)), named.join(", ")))
}

/// The line of a subject that is not in a list of protocols.
fn sentence(about: About, number: u64) -> Option<String> {
    let packets = packets(number);
    Some(match about {
        About::Copy => format!("{packets} left out as copies of others"),
        About::PossibleCopy => format!(
            "possible copies: {packets} with the sequence numbers of others between other addresses or ports, as a \
             translation (NAT) makes them; that is not certain, so they count twice"
        ),
        About::AfterReset => format!("{packets} left out that came after their receiver had reset the connection"),
        About::IgnoredReset => format!("{packets} with RST ignored: no connection that they fit, or it went on"),
        About::Nanoseconds => {
            "times read as nanoseconds, although the file says microseconds: their fractions are beyond a second"
                .to_string()
        }
        About::Fraction => format!("{packets} with a time whose fraction is beyond a second"),
        About::Unknown(_) if !about.is_cause() => format!("{packets} for a reason that this version does not know"),
        _ => return None,
    })
}

/// A subject as text, by name and number: `link type 147 (USER0)`, `UDP`, `EtherType 0x88cc (LLDP)`.
pub fn detail(Subject { about, number }: Subject) -> String {
    let what = match about {
        About::Frames => About::LinkType.name(),
        about => about.name(),
    };
    match about {
        About::LinkType | About::Frames => named(format!("{what} {number}"), link_type(number)),
        About::IpProtocol => {
            let keyword = u8::try_from(number)
                .ok()
                .and_then(|number| IpNumber(number).keyword_str());
            keyword.map_or_else(|| format!("{what} {number}"), str::to_string)
        }
        About::EtherType => named(format!("{what} 0x{number:04x}"), ether_type(number)),
        About::Llc | About::Nlpid => format!("{what} 0x{number:02x}"),
        About::PppProtocol | About::PppPacked => format!("{what} 0x{number:04x}"),
        About::AddressFamily => format!("{what} {number}"),
        About::Wifi => match number {
            0 => "Wi-Fi management".to_string(),
            1 => "Wi-Fi control".to_string(),
            2 => "Wi-Fi without data".to_string(),
            _ => format!("{what} {number}"),
        },
        _ => what.to_string(),
    }
}

fn named(what: String, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{what} ({name})"),
        None => what,
    }
}

/// EtherTypes that are often captured (IEEE registration authority).
fn ether_type(number: u32) -> Option<&'static str> {
    Some(match number {
        0x0806 => "ARP",
        0x0842 => "Wake-on-LAN",
        0x2000 => "CDP",
        0x22f3 => "TRILL",
        0x8035 => "RARP",
        0x809b => "AppleTalk",
        0x8137 => "IPX",
        0x8808 => "flow control",
        0x8809 => "LACP",
        0x8863 => "PPPoE discovery",
        0x886d => "Intel ANS",
        0x888e => "EAPOL",
        0x8892 => "PROFINET",
        0x88a2 => "ATA over Ethernet",
        0x88a4 => "EtherCAT",
        0x88b5 | 0x88b6 => "local experiments",
        0x88cc => "LLDP",
        0x88f7 => "PTP",
        0x8902 => "CFM",
        0x8903 => "FabricPath",
        0x8906 => "FCoE",
        0x8914 => "FIP",
        0x8915 => "RoCE",
        0x9000 => "loopback test",
        _ => return None,
    })
}

/// The names of <https://www.tcpdump.org/linktypes.html>.
fn link_type(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "NULL",
        1 => "ETHERNET",
        3 => "AX25",
        6 => "IEEE802_5",
        7 => "ARCNET_BSD",
        8 => "SLIP",
        9 => "PPP",
        10 => "FDDI",
        50 => "PPP_HDLC",
        51 => "PPP_ETHER",
        100 => "ATM_RFC1483",
        101 => "RAW",
        104 => "C_HDLC",
        105 => "IEEE802_11",
        107 => "FRELAY",
        108 => "LOOP",
        109 => "ENC",
        113 => "LINUX_SLL",
        114 => "LTALK",
        117 => "PFLOG",
        119 => "IEEE802_11_PRISM",
        122 => "IP_OVER_FC",
        123 => "SUNATM",
        127 => "IEEE802_11_RADIOTAP",
        129 => "ARCNET_LINUX",
        138 => "APPLE_IP_OVER_IEEE1394",
        139 => "MTP2_WITH_PHDR",
        140 => "MTP2",
        141 => "MTP3",
        142 => "SCCP",
        143 => "DOCSIS",
        144 => "LINUX_IRDA",
        147..=162 => "USER",
        163 => "IEEE802_11_AVS",
        165 => "BACNET_MS_TP",
        166 => "PPP_PPPD",
        169 => "GPRS_LLC",
        177 => "LINUX_LAPD",
        187 => "BLUETOOTH_HCI_H4",
        189 => "USB_LINUX",
        192 => "PPI",
        195 => "IEEE802_15_4_WITHFCS",
        196 => "SITA",
        197 => "ERF",
        201 => "BLUETOOTH_HCI_H4_WITH_PHDR",
        202 => "AX25_KISS",
        203 => "LAPD",
        204 => "PPP_WITH_DIR",
        205 => "C_HDLC_WITH_DIR",
        206 => "FRELAY_WITH_DIR",
        209 => "IPMB_LINUX",
        215 => "IEEE802_15_4_NONASK_PHY",
        220 => "USB_LINUX_MMAPPED",
        224 => "FC_2",
        225 => "FC_2_WITH_FRAME_DELIMS",
        226 => "IPNET",
        227 => "CAN_SOCKETCAN",
        228 => "IPV4",
        229 => "IPV6",
        230 => "IEEE802_15_4_NOFCS",
        231 => "DBUS",
        239 => "NFLOG",
        240 => "NETANALYZER",
        242 => "IPOIB",
        243 => "MPEG_2_TS",
        244 => "NG40",
        245 => "NFC_LLCP",
        247 => "INFINIBAND",
        248 => "SCTP",
        249 => "USBPCAP",
        251 => "BLUETOOTH_LE_LL",
        252 => "WIRESHARK_UPPER_PDU",
        253 => "NETLINK",
        254 => "BLUETOOTH_LINUX_MONITOR",
        255 => "BLUETOOTH_BREDR_BB",
        256 => "BLUETOOTH_LE_LL_WITH_PHDR",
        257 => "PROFIBUS_DL",
        258 => "PKTAP",
        259 => "EPON",
        264 => "ISO_14443",
        265 => "RDS",
        266 => "USB_DARWIN",
        268 => "SDLC",
        270 => "LORATAP",
        271 => "VSOCK",
        272 => "NORDIC_BLE",
        273 => "DOCSIS31_XRA31",
        275 => "DISPLAYPORT_AUX",
        276 => "LINUX_SLL2",
        278 => "OPENVIZSLA",
        280 => "ELEE",
        281 => "DSA_TAG_BRCM",
        282 => "DSA_TAG_BRCM_PREPEND",
        283 => "IEEE802_15_4_TAP",
        284 => "DSA_TAG_DSA",
        285 => "DSA_TAG_EDSA",
        288 => "USB_2_0",
        289 => "ATSC_ALP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_listed_by_name_and_the_most_frequent_first() {
        let mut remarks = Remarks::default();
        for (about, number, events) in [
            (About::EtherType, 0x0806, 3),
            (About::IpProtocol, 17, 1000),
            (About::IpProtocol, 17, 200),
            (About::IpProtocol, 254, 1),
            (About::LinkType, 147, 8),
            (About::LinkType, 4711, 1),
            (About::Copy, 0, 1),
            (About::Frames, 1, 1500),
        ] {
            remarks.add(Subject { about, number }, events);
        }
        assert_eq!(
            remarks.lines(),
            [
                "1,500 packets: link type 1 (ETHERNET) 1,500",
                "1,204 packets not of TCP: UDP 1,200, EtherType 0x0806 (ARP) 3, IP protocol 254 1",
                "9 packets not understood: link type 147 (USER) 8, link type 4711 1",
                "1 packet left out as copies of others",
            ]
        );
    }

    #[test]
    fn every_subject_has_a_line_and_any_number_of_subjects_is_bounded() {
        for about in About::ALL.iter().copied().chain([About::Unknown(99)]) {
            let mut remarks = Remarks::default();
            remarks.add(about.into(), 5);
            let lines = remarks.lines();
            assert_eq!(lines.len(), 1, "{about:?}");
            assert!(lines[0].contains('5') || about == About::Nanoseconds, "{lines:?}");
        }
        let mut remarks = Remarks::default();
        for number in 0..3 * MAX_KINDS as u32 {
            remarks.add(Subject::new(About::EtherType, number), u64::MAX / 4);
        }
        assert!(remarks.0.len() <= MAX_KINDS + About::ALL.len());
        assert!(remarks.lines()[0].len() < 1000, "{:?}", remarks.lines());
    }
}
