//! The name of a connection end in reports and in the dependency map.

use std::fmt::Write;

use crate::analyze::row::Party;
use crate::format::record::Endpoint;

/// Writes the name of an end in the dependency map: the owner of its pod with its namespace, else its pod, container,
/// systemd service, process name, the name of its address, or the address. A Kubernetes Service has the name of the owner of
/// its pods, so that a call has one name whether it went to the Service or to a pod.
pub fn write_service(to: &mut String, party: &Party, endpoint: &Endpoint) {
    let name = match party.pod.is_empty() {
        true if party.pid == 0 && !party.namespace.is_empty() => &party.address_name,
        _ => &party.pod,
    };
    if !name.is_empty() {
        if !party.namespace.is_empty() {
            to.push_str(&party.namespace);
            to.push('/');
        }
        match party.workload.rsplit('/').next() {
            Some(owner) if !owner.is_empty() => to.push_str(owner),
            _ => to.push_str(name),
        }
    } else if !party.container.is_empty() {
        to.push_str(&party.container);
    } else if party.workload.ends_with(".service") {
        to.push_str(&party.workload);
    } else if !party.comm.is_empty() {
        to.push_str(&party.comm);
    } else if !party.address_name.is_empty() {
        to.push_str(&party.address_name);
    } else {
        let _ = write!(to, "{}", endpoint.ip());
    }
}

/// As [`write_service`] for a pod, a container or a systemd service; writes nothing for others.
pub fn write_named(to: &mut String, party: &Party, endpoint: &Endpoint) {
    if !party.pod.is_empty() || !party.container.is_empty() || party.workload.ends_with(".service") {
        write_service(to, party, endpoint);
    }
}

/// Writes who an end is: pod or container with the process in brackets, else the process, else its address.
pub fn write_party(to: &mut String, party: &Party, endpoint: &Endpoint) {
    let named = to.len();
    if !party.pod.is_empty() {
        if !party.namespace.is_empty() {
            to.push_str(&party.namespace);
            to.push('/');
        }
        to.push_str(&party.pod);
    } else if !party.container.is_empty() {
        to.push_str(&party.container);
    }
    match (to.len() > named, party.comm.is_empty()) {
        (true, false) => {
            let _ = write!(to, " ({})", party.comm);
        }
        (true, true) => {}
        (false, false) => to.push_str(&party.comm),
        (false, true) if !party.address_name.is_empty() => {
            if !party.namespace.is_empty() {
                to.push_str(&party.namespace);
                to.push('/');
            }
            to.push_str(&party.address_name);
        }
        (false, true) => {
            let _ = write!(to, "{}", endpoint.ip());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(namespace: &str, pod: &str, container: &str, workload: &str, comm: &str) -> Party {
        Party {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
            workload: workload.into(),
            comm: comm.into(),
            ..Party::default()
        }
    }

    #[test]
    fn the_most_specific_name_is_used() {
        let endpoint = Endpoint::new([10, 0, 0, 7].into(), 80);
        let both = |party: &Party| {
            let (mut service, mut who) = (String::new(), String::new());
            write_service(&mut service, party, &endpoint);
            write_party(&mut who, party, &endpoint);
            (service, who)
        };
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(
            both(&party("shop", "cart-0", "app", "StatefulSet/cart", "python")),
            pair("shop/cart", "shop/cart-0 (python)")
        );
        assert_eq!(
            both(&party("shop", "cart-0", "app", "", "")),
            pair("shop/cart-0", "shop/cart-0")
        );
        assert_eq!(both(&party("", "", "db", "", "mariadbd")), pair("db", "db (mariadbd)"));
        assert_eq!(
            both(&party("", "", "", "nginx.service", "nginx")),
            pair("nginx.service", "nginx")
        );
        assert_eq!(
            both(&party("", "", "", "session-1.scope", "curl")),
            pair("curl", "curl")
        );
        assert_eq!(both(&party("", "", "", "", "")), pair("10.0.0.7", "10.0.0.7"));
        let service = Party {
            address_name: "cart-http".into(),
            ..party("shop", "", "", "StatefulSet/cart", "")
        };
        assert_eq!(both(&service), pair("shop/cart", "shop/cart-http"));
        let node = Party {
            address_name: "node1".into(),
            ..Party::default()
        };
        assert_eq!(both(&node), pair("node1", "node1"));
    }
}
