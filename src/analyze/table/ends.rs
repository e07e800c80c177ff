//! The columns that say who is at both ends of what a row counts together.

/// How many there are.
pub const COLUMNS: usize = 8;

/// One of these columns.
macro_rules! end_column {
    ($end:ident . $name:ident, $what:literal, $counted:literal, $apart:literal) => {
        $crate::analyze::table::define::column(
            concat!(stringify!($end), "_", stringify!($name)),
            $crate::analyze::table::Kind::Text,
            concat!(
                $what,
                "; null unless all ",
                $counted,
                " have the same one (one by one: ",
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

/// The columns of a table: its own, and the ends after them. `$counted` is what a row counts; `$apart` shows that by the
/// value of a column.
macro_rules! columns_with_ends {
    ($table:ty, $counted:literal, $apart:literal, [$($own:expr),* $(,)?]) => {{
        use $crate::analyze::table::ends::end_column;
        static DEFS: &[$crate::analyze::table::Def<$table>] = &[
            $($own,)*
            end_column!(client.namespace, "namespace of the client's pod", $counted, $apart),
            end_column!(client.workload, "what owns the client's pod (Deployment/cart), or the systemd unit", $counted, $apart),
            end_column!(client.pod, "pod of the client", $counted, $apart),
            end_column!(client.container, "container of the client: the name, else the short id", $counted, $apart),
            end_column!(server.namespace, "namespace of the server's pod", $counted, $apart),
            end_column!(server.workload, "what owns the server's pod (Deployment/cart), or the systemd unit", $counted, $apart),
            end_column!(server.pod, "pod of the server", $counted, $apart),
            end_column!(server.container, "container of the server: the name, else the short id", $counted, $apart),
        ];
        DEFS
    }};
}

pub(crate) use {columns_with_ends, end_column};
