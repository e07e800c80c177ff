//! The command that is recorded: as whom it runs, and what the file keeps of it.

use std::process::Command;

use super::tools::*;

/// What a command prints, recorded by this mdf.
fn output_of(mut mdf: Command, options: &[&str], script: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    mdf.current_dir(folder.path())
        .args(["record", "-o", "cap.mdf"])
        .args(options);
    let output = mdf.args(["--", "sh", "-c", script]).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{log}");
    (String::from_utf8_lossy(&output.stdout).into_owned(), log)
}

#[test]
fn the_command_runs_as_who_called_sudo_or_as_the_user_says() {
    if !live() {
        return;
    }
    let script = "id -u; id -g; id -G; echo $USER $LOGNAME $HOME; env | grep -c ^SUDO || :";
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody: Vec<&str> = passwd
        .lines()
        .find_map(|line| line.strip_prefix("nobody:"))
        .expect("there is nobody")
        .split(':')
        .collect();
    let as_nobody = format!("65534\n{0}\n{0}\nnobody nobody {1}\n0\n", nobody[2], nobody[4]);
    let (output, log) = output_of(sudo(), &[], script);
    assert_eq!(output, as_nobody);
    assert!(
        log.contains("the command runs as nobody (user 65534), who called sudo"),
        "{log}"
    );
    for user in ["nobody", "65534"] {
        let (output, log) = output_of(mdf(), &["--user", user], script);
        assert_eq!(output, as_nobody);
        assert!(!log.contains("sudo"), "{log}");
    }
    let (output, _) = output_of(sudo(), &["--user", "root"], "id -u; echo $HOME");
    assert_eq!(output, "0\n/root\n");
    let (output, log) = output_of(mdf(), &[], "id -u");
    assert_eq!(output, "0\n");
    assert!(!log.contains("runs as"), "{log}");
}

#[test]
fn arguments_of_the_command_are_in_the_head_of_the_file_only_when_wanted() {
    if !live() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (option, expected) in [
        (None, "-o cap.mdf --force -- true …"),
        (
            Some("--store-arguments"),
            "-o cap.mdf --force --store-arguments -- true -pSECRET shop",
        ),
    ] {
        let mut words = vec!["-o", "cap.mdf", "--force"];
        words.extend(option);
        words.extend(["--", "true", "-pSECRET", "shop"]);
        let (code, log) = Recorder::start(folder.path(), &words).end();
        assert_eq!(code, 0, "{log}");
        let header = Capture::read(&folder.path().join("cap.mdf")).header;
        assert!(header.command_line.ends_with(expected), "{}", header.command_line);
    }
}
