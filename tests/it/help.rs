//! What a new user and a packager get of the command: help, manual pages, completions.

use std::path::Path;
use std::process::{Command, Stdio};

use hero_proc_cleanup::TERMINAL_PHASES;
use tempfile::TempDir;

use crate::support::process::{BINARY, binary, entries, run, text};
use crate::support::scripted::path_text;
use crate::support::skipped;
use crate::terminal::Terminal;

const COMMANDS: [&str; 11] = [
    "demo",
    "serve",
    "gateway",
    "jobs-cleanup",
    "jobs-usage",
    "jobs-reclaim",
    "retain",
    "page",
    "check",
    "completions",
    "man",
];

#[test]
fn help_is_wrapped_to_the_terminal() {
    for columns in [60_u16, 80, 200] {
        for arguments in COMMANDS.map(|command| vec![command, "--help"]).iter().chain([&vec!["--help"]]) {
            let mut command = Terminal::session();
            command.args(arguments).env("NO_COLOR", "1").env("PATH_SOCKET", "/run/hero");
            let (code, _, shown) = Terminal::start(command, columns, [None, None]).end();
            assert_eq!(code, Some(0), "{arguments:?}");
            // A single word can't be wrapped.
            for line in shown.lines().filter(|line| line.split_whitespace().count() > 1) {
                assert!(line.chars().count() <= columns.into(), "{columns}, {arguments:?}: {line:?}");
            }
        }
    }
}

/// What an option does when it is not given stands there.
#[test]
fn defaults_stand_in_the_help() {
    let home = TempDir::new().expect("a directory");
    let help = |command: &str, variable: &str| {
        let mut help = binary();
        help.args([command, "--help"]).env_remove("PATH_SOCKET").env_remove("HERO_SOCKET_DIR");
        let output = help.env(variable, home.path()).output().expect("the binary runs");
        text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let socket = |inside: &str| format!("[default: {}", home.path().join(inside).display());
    for (command, variable, default) in [
        ("jobs-cleanup", "HOME", socket("hero/var/sockets/hero_codescalers_cleanup/rpc.sock]")),
        ("gateway", "PATH_SOCKET", socket("hero_codescalers_cleanup/rpc.sock]")),
        ("serve", "HERO_SOCKET_DIR", socket("hero_proc_cleanup/rpc.sock]")),
        ("jobs-cleanup", "HOME", "[default: 50000 or 1 GiB in each call, call after call]".to_owned()),
        ("jobs-cleanup", "HOME", "[default: 10000, or 1000 for a table]".to_owned()),
        ("jobs-cleanup", "HOME", "[default: table on a terminal, json elsewhere]".to_owned()),
    ] {
        assert!(help(command, variable).contains(&default), "{default:?} is missing: {}", help(command, variable));
    }
}

/// A page for each command, and nothing in them of whoever made them.
#[test]
fn manual_pages_are_written_into_a_directory() {
    let home = TempDir::new().expect("a directory");
    let dir = home.path().join("share/man1");
    let output = binary().args(["man", path_text(&dir)]).env("HOME", home.path()).output().expect("the binary runs");
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
    let mut pages: Vec<String> = entries(&dir).iter().map(|page| name(page)).collect();
    pages.sort_unstable();
    let mut expected: Vec<String> = COMMANDS.iter().map(|command| format!("hero_proc_cleanup-{command}.1")).collect();
    expected.push("hero_proc_cleanup.1".to_owned());
    expected.sort_unstable();
    assert_eq!(pages, expected);
    for page in entries(&dir) {
        let page = std::fs::read_to_string(page).expect("a page");
        assert!(page.contains(".TH hero_proc_cleanup") && page.contains("EXTRA"), "{page}");
        assert!(!page.contains(path_text(home.path())), "{page}");
    }
    // Again, and where it can't be.
    assert_eq!(run(&["man", path_text(&dir)]).status.code(), Some(0));
    assert_eq!(run(&["man", "/dev/null/man1"]).status.code(), Some(1));
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// Only where a path is wanted are file names offered. Which hint each argument has, a unit test says; this is what
/// becomes of them.
#[test]
fn completions_offer_what_is_wanted() {
    let home = TempDir::new().expect("a directory");
    let script = |shell: &str| {
        let mut command = binary();
        command.args(["completions", shell]).env("HOME", home.path());
        let script = text(&command.output().expect("the binary runs").stdout).to_owned();
        assert!(!script.contains(path_text(home.path())), "{shell}: a home of no user's");
        script
    };
    let fish = script("fish");
    let offers = |command: &str, option: &str, offered: &str| {
        let start = format!("using_subcommand {command}\" -l {option} -d ");
        let line = fish.lines().find(|line| line.contains(&start)).unwrap_or_else(|| panic!("{start}: {fish}"));
        assert!(line.ends_with(offered), "{line}");
    };
    for option in ["kind", "target", "actor", "older-than", "limit", "max-ids", "plan", "timeout"] {
        offers("jobs-cleanup", option, " -r -f");
    }
    for option in ["except-kind", "before", "keep-last"] {
        offers("jobs-cleanup", option, " -r -f");
    }
    offers("jobs-cleanup", "keep-by", r#" -r -f -a "kind\t'Their kind, such as build'"#);
    for phase in TERMINAL_PHASES {
        assert!(fish.contains(&format!(r"{phase}\t''")), "{phase}: {fish}");
    }
    offers("jobs-reclaim", "within", " -r -f");
    for (command, option) in [("jobs-cleanup", "socket"), ("gateway", "hero-proc"), ("serve", "store")] {
        offers(command, option, " -r -F");
    }
    offers("gateway", "admin", " -r -f -a \"(__fish_complete_users)\"");
    assert!(fish.contains("-a \"json\\t'For programs'"), "{fish}");

    let bash = script("bash");
    let admin = bash.split("--admin)").nth(1).expect("the option");
    assert!(admin.trim_start().starts_with("COMPREPLY=($(compgen -u "), "{admin}");
    script("zsh");
}

/// Where the machine has bash or fish, these shells offer what is listed, and nothing else.
#[test]
fn shells_offer_what_is_wanted_and_nothing_else() {
    let home = TempDir::new().expect("a directory");
    std::fs::create_dir(home.path().join("a_directory")).expect("a directory");
    std::fs::write(home.path().join("a_file"), "").expect("a file");
    let shells: &[&str] = &["bash", "elvish", "fish", "powershell", "zsh"];
    for (shell, directory, ask) in [
        // What bash adds where the script offers nothing is asked of the specification.
        ("bash", "a_directory", BASH),
        ("fish", "a_directory/", r#"source script; complete -C "hero_proc_cleanup $argv[1]""#),
    ] {
        let has_it = Command::new("sh").args(["-c", &format!("command -v {shell}")]).stdout(Stdio::null()).status();
        if !has_it.expect("a shell").success() {
            skipped(&format!("completions in {shell} can't be tried, since there is no {shell}"));
            continue;
        }
        let script = binary().args(["completions", shell]).output().expect("the binary runs").stdout;
        std::fs::write(home.path().join("script"), script).expect("a script");
        for (line, offers) in [
            ("gateway --admin roo", &["root"][..]),
            ("gateway --socket-group roo", &["root"]),
            ("serve --socket-group roo", &["root"]),
            ("serve --store a_", &[directory, "a_file"]),
            ("jobs-cleanup --phase ki", &["killed"]),
            ("jobs-cleanup --kind a_", &[]),
            ("jobs-cleanup --older-than a_", &[]),
            ("jobs-cleanup a_", &[]),
            ("jobs-usage a_", &[]),
            ("completions a_", &[]),
            ("completions ", shells),
            ("man a_", &[directory]),
        ] {
            let mut command = Command::new(shell);
            command.current_dir(home.path()).env("HOME", home.path()).env("PATH", with_binary());
            command.args(["-c", ask]).args((shell == "bash").then_some("bash")).arg(line);
            let output = command.output().expect("a shell runs");
            let word = line.rsplit(' ').next().expect("a word");
            let offered = text(&output.stdout).lines().map(|line| line.split('\t').next().expect("a word"));
            let mut offered: Vec<&str> =
                offered.filter(|offer| *offer != word && !offer.starts_with('-') && !offer.is_empty()).collect();
            offered.sort_unstable();
            assert_eq!(offered, offers, "{shell}: {line:?}");
        }
    }
}

/// What the script offers after `$1`, a word on each line, and then what bash itself would.
const BASH: &str = r#"
    source ./script
    words="hero_proc_cleanup $1"
    IFS=' ' read -ra COMP_WORDS <<<"$words"
    [[ $words != *' ' ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _hero_proc_cleanup hero_proc_cleanup "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
    printf '%s\n' "${COMPREPLY[@]}"
    if [[ ${#COMPREPLY[@]} = 0 && $(complete -p hero_proc_cleanup) = *' -o default '* ]]; then
        compgen -f -- "${COMP_WORDS[COMP_CWORD]}"
    fi
"#;

/// `$PATH`, with the binary's directory first.
fn with_binary() -> String {
    let directory = Path::new(BINARY).parent().expect("a directory");
    format!("{}:{}", directory.display(), std::env::var("PATH").expect("a PATH"))
}
