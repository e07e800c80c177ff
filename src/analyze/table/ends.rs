//! The columns that name the client and the server: those of a row with one connection, and those of a row that aggregates
//! many. Which tables have them, and where, is the tables' own matter.

/// The columns of a table whose rows have one client and one server: `$before`, both parties, `$after`.
/// The caller has `column`, `Number`, `Text` and `Value` in scope.
macro_rules! columns_with_parties {
    ($table:ty, [$($before:expr),* $(,)?], [$($after:expr),* $(,)?]) => {{
        static DEFS: &[$crate::analyze::table::Def<$table>] = &[
            $($before,)*
            column("client_pid", Number, "process id of the client on the client's host", |r, _| Value::nonzero(r.client_party.pid.into())),
            column("client_comm", Text, "name of the client process (comm)", |r, _| Value::text(&r.client_party.comm)),
            column("client_cgroup", Text, "cgroup path of the client process", |r, _| Value::text(&r.client_party.cgroup)),
            column("client_container", Text, "container of the client: the name, else the short id", |r, _| Value::text(&r.client_party.container)),
            column("client_container_id", Text, "full id of the client's container", |r, _| Value::text(&r.client_party.container_id)),
            column("client_pod", Text, "pod of the client", |r, _| Value::text(&r.client_party.pod)),
            column("client_namespace", Text, "Kubernetes namespace of the client's pod", |r, _| Value::text(&r.client_party.namespace)),
            column("client_workload", Text, "owner of the client's pod (such as Deployment/cart), or the client's systemd unit", |r, _| Value::text(&r.client_party.workload)),
            column("client_name", Text, "name of the client's address, where a source of names knows it", |r, _| Value::text(&r.client_party.address_name)),
            column("client_host", Text, "host on which the client's socket was captured", |r, _| Value::text(&r.client_party.hostname)),
            column("server_pid", Number, "process id of the server on the server's host", |r, _| Value::nonzero(r.server_party.pid.into())),
            column("server_comm", Text, "name of the server process (comm)", |r, _| Value::text(&r.server_party.comm)),
            column("server_cgroup", Text, "cgroup path of the server process", |r, _| Value::text(&r.server_party.cgroup)),
            column("server_container", Text, "container of the server: the name, else the short id", |r, _| Value::text(&r.server_party.container)),
            column("server_container_id", Text, "full id of the server's container", |r, _| Value::text(&r.server_party.container_id)),
            column("server_pod", Text, "pod of the server", |r, _| Value::text(&r.server_party.pod)),
            column("server_namespace", Text, "Kubernetes namespace of the server's pod", |r, _| Value::text(&r.server_party.namespace)),
            column("server_workload", Text, "owner of the server's pod (such as Deployment/cart), or the server's systemd unit", |r, _| Value::text(&r.server_party.workload)),
            column("server_name", Text, "name of the server's address, where a source of names knows it", |r, _| Value::text(&r.server_party.address_name)),
            column("server_host", Text, "host on which the server's socket was captured", |r, _| Value::text(&r.server_party.hostname)),
            $($after,)*
        ];
        DEFS
    }};
}

/// Number of columns that [`columns_with_ends`] adds.
pub const COLUMNS: usize = 8;

/// A column of an aggregate table that names an end.
macro_rules! end_column {
    ($end:ident . $name:ident, $what:literal, $counted:literal, $apart:literal) => {
        $crate::analyze::table::define::column(
            concat!(stringify!($end), "_", stringify!($name)),
            $crate::analyze::table::Kind::Text,
            concat!(
                $what,
                "; null unless it is equal for all ",
                $counted,
                " (for a row for each value: ",
                $apart,
                ",",
                stringify!($end),
                "_",
                stringify!($name),
                ")"
            ),
            |r, _| $crate::analyze::table::Value::text(r.$end.$name),
        )
    };
}

/// The columns of an aggregate table: its own, and the ends after them. `$counted` is what a row aggregates; `$apart` are
/// the options that show a row for each value of such a column.
macro_rules! columns_with_ends {
    ($table:ty, $counted:literal, $apart:literal, [$($own:expr),* $(,)?]) => {{
        use $crate::analyze::table::ends::end_column;
        static DEFS: &[$crate::analyze::table::Def<$table>] = &[
            $($own,)*
            end_column!(client.namespace, "Kubernetes namespace of the client's pod", $counted, $apart),
            end_column!(client.workload, "owner of the client's pod (such as Deployment/cart), or the client's systemd unit", $counted, $apart),
            end_column!(client.pod, "pod of the client", $counted, $apart),
            end_column!(client.container, "container of the client: the name, else the short id", $counted, $apart),
            end_column!(server.namespace, "Kubernetes namespace of the server's pod", $counted, $apart),
            end_column!(server.workload, "owner of the server's pod (such as Deployment/cart), or the server's systemd unit", $counted, $apart),
            end_column!(server.pod, "pod of the server", $counted, $apart),
            end_column!(server.container, "container of the server: the name, else the short id", $counted, $apart),
        ];
        DEFS
    }};
}

pub(crate) use {columns_with_ends, columns_with_parties, end_column};
