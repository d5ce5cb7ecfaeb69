//! Completion scripts: those of clap_complete, and in them the values that clap_complete does not complete by their type.
//!
//! clap_complete knows no groups. In bash it offers file names for users, and bash itself offers file names where the
//! script offers nothing. In fish it knows no values without an option, so fish offers file names for them.

use std::fmt::Write as _;

use clap::{Command, ValueEnum};
use clap_complete::Shell;

/// The completion script of `command` for `shell`.
pub(super) fn script(shell: Shell, mut command: Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => bash(&name, &script),
        Shell::Fish => fish(&name, script, &command),
        Shell::Zsh => zsh(&script),
        _ => script,
    }
}

/// A line break, and the indentation of what bash does for an option.
const BASH_DOES: &str = "\n                    ";

fn bash(name: &str, script: &str) -> String {
    let group = [
        r#"COMPREPLY=("${cur}")"#,
        r#"if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then"#,
        "    compopt -o nospace",
        "fi",
        "return 0",
    ];
    let man = format!("\n        {name}__subcmd__man)\n");
    let directories = r#"            if [[ ${cur} != -* && ${prev} != --log-format ]] ; then
                local IFS=$'\n'
                COMPREPLY=($(compgen -d -- "${cur}"))
                compopt -o filenames
                return 0
            fi
"#;
    script
        .replace(
            &format!("--admin){BASH_DOES}COMPREPLY=($(compgen -f "),
            &format!("--admin){BASH_DOES}COMPREPLY=($(compgen -u "),
        )
        .replace(
            &format!("--socket-group){BASH_DOES}{}", group.join(BASH_DOES)),
            &format!("--socket-group){BASH_DOES}COMPREPLY=($(compgen -g -- \"${{cur}}\")){BASH_DOES}return 0"),
        )
        .replace(&man, &(man.clone() + directories))
        .replace(" -o bashdefault -o default ", " ")
}

fn zsh(script: &str) -> String {
    let line = |line: &str| match line.strip_suffix(":NAME:' \\") {
        Some(start) if start.starts_with("'--socket-group=") => format!("{start}:NAME:_groups' \\\n"),
        _ => format!("{line}\n"),
    };
    script.lines().map(line).collect()
}

fn fish(name: &str, script: String, command: &Command) -> String {
    let mut fish = String::with_capacity(script.len());
    for line in script.lines() {
        fish += line;
        if line.contains(" -l socket-group ") {
            fish += " -a \"(__fish_complete_groups)\"";
        }
        fish.push('\n');
    }
    for subcommand in command.get_subcommands().map(Command::get_name) {
        let values = match subcommand {
            "completions" => {
                let shells = Shell::value_variants().iter().map(ToString::to_string).collect::<Vec<_>>();
                format!(" -a \"{}\"", shells.join(" "))
            }
            "man" => " -a \"(__fish_complete_directories)\"".to_owned(),
            _ => String::new(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(fish, "complete -c {name} -n \"__fish_{name}_using_subcommand {subcommand}\" -f{values}");
    }
    fish
}
