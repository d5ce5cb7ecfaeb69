//! How a command ends when it does not end well, and the exit code that says so.

use std::error::Error as _;
use std::path::Path;

use hero_proc_cleanup::{Kind, RpcError};
use thiserror::Error;

use super::output::say;
use super::text::{json, printable};

/// Why a command did not end with 0.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The call was answered with an error, or not at all.
    #[error(transparent)]
    Call(#[from] RpcError),
    /// This user may not connect to the socket of the command line. Nothing was sent.
    #[error(transparent)]
    NoPermission(RpcError),
    /// Nobody knows what became of the call, which was a dry run.
    #[error("{0}; it was a dry run, which deletes nothing")]
    NotShown(RpcError),
    /// Done, but the report could not be written.
    #[error("{done}, but the report could not be written")]
    NotReported {
        /// What had been deleted or given back.
        done: String,
        source: Box<Failure>,
    },
    /// Done, but not everything could be.
    #[error("done, but some jobs stay that should have gone: the report's errors say why")]
    WithErrors,
    /// Done, but not all space was given back.
    #[error("done, but not all space was given back: {why}")]
    NotReclaimed { why: &'static str },
    /// A signal came in between.
    #[error("interrupted: {what_went}")]
    Interrupted {
        /// What had been deleted by then.
        what_went: String,
    },
    /// The store that was asked about does not fit.
    #[error("the store does not fit")]
    Unfit,
    /// Another process makes a pass of retention on the same gateway.
    #[error("another pass is running on this gateway: nothing was asked of it")]
    PassRuns,
    /// A human has to confirm a policy.
    #[error(
        "the policy is new or has changed, and would take {takes} of {jobs} jobs, more than half: nothing was deleted"
    )]
    Waits {
        takes: u64,
        jobs: u64,
        /// The policy's.
        digest: String,
    },
    /// Retention has not done its work for too long.
    #[error("no pass has succeeded for three times `every`")]
    Overdue,
    /// The command line asks for what can't be.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{what}")]
    Failed {
        what: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Failure {
    /// The failure `error` of a call at `socket`.
    ///
    /// A gateway that may not connect to hero_proc answers with the same kind and cause, of another socket.
    pub(crate) fn of_call(error: RpcError, socket: &Path) -> Self {
        let refused = error.kind() == Some(Kind::UpstreamUnreachable) && error.data["cause"] == "permission_denied";
        if refused && error.data["socket"] == *socket.display().to_string() {
            Self::NoPermission(error)
        } else {
            Self::Call(error)
        }
    }

    /// The failure `error` of a dry run at `socket`.
    pub(crate) fn of_dry_run(error: RpcError, socket: &Path) -> Self {
        match error.kind() {
            Some(Kind::OutcomeUnknown) => Self::NotShown(error),
            _ => Self::of_call(error, socket),
        }
    }

    pub(crate) fn failed(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { what: what.into(), source: Some(source.into()) }
    }

    /// The exit codes of the command line, all of them but 0.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Call(error) => match error.kind() {
                Some(Kind::InvalidParams) => 2,
                Some(Kind::PlanChanged) => 4,
                Some(Kind::TagOutsideGuard | Kind::NotAdmin) => 5,
                Some(Kind::StoreBusy | Kind::UpstreamUnreachable | Kind::OutcomeUnknown) => 6,
                Some(
                    Kind::ParseError
                    | Kind::InvalidRequest
                    | Kind::MethodNotFound
                    | Kind::StoreUnfit
                    | Kind::ForceUnavailable
                    | Kind::DiskFull
                    | Kind::Cancelled
                    | Kind::Internal,
                )
                | None => 1,
            },
            Self::Interrupted { .. } | Self::Unfit | Self::NotReported { .. } | Self::Overdue | Self::Failed { .. } => {
                1
            }
            Self::Usage(_) => 2,
            Self::WithErrors | Self::NotReclaimed { .. } => 3,
            Self::Waits { .. } => 4,
            Self::NoPermission(_) => 5,
            Self::NotShown(_) | Self::PassRuns => 6,
        }
    }

    /// Says on stderr what went wrong: see [`lines`](Self::lines).
    pub(crate) fn say(&self) {
        self.lines().iter().for_each(say);
    }

    /// What went wrong, with its causes, with what the error's data adds, and with what may help. The lines are printable.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        let mut lines = vec![printable(text)];
        if let Self::Call(error) | Self::NoPermission(error) | Self::NotShown(error) = self {
            for (name, value) in error.data.as_object().into_iter().flatten().filter(|(name, _)| *name != "kind") {
                lines.push(format!("  {}: {}", printable(name), json(&value.to_string())));
            }
        }
        if let Self::Waits { digest, .. } = self {
            lines
                .push("To let it delete: the same command with --once --yes, or, at the top of the policy:".to_owned());
            lines.push(printable(format_args!("  confirmed = \"{digest}\"")));
        }
        lines.extend(self.help().map(ToOwned::to_owned));
        lines
    }

    /// What the user can do.
    fn help(&self) -> Option<&'static str> {
        match self {
            Self::Call(error) if error.kind() == Some(Kind::PlanChanged) => match error.data.get("reason")?.as_str()? {
                "params" => Some("A plan goes with the very flags of its dry run: give the same ones, and no others."),
                "set" => Some("A new dry run shows what would go now."),
                _ => None,
            },
            Self::Call(error) if error.kind() == Some(Kind::DiskFull) => {
                Some("A few MB are enough to go on in batches: any file that can be removed from that disk makes room.")
            }
            Self::Call(error) if error.kind() == Some(Kind::OutcomeUnknown) => Some("A dry run shows what is left."),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        let code = |kind: &Kind| (kind.as_str(), Failure::from(RpcError::new(*kind, "")).exit_code());
        let codes: Vec<_> = Kind::ALL.iter().map(code).collect();
        let expected = [
            ("parse_error", 1),
            ("invalid_request", 1),
            ("method_not_found", 1),
            ("invalid_params", 2),
            ("tag_outside_guard", 5),
            ("not_admin", 5),
            ("plan_changed", 4),
            ("store_busy", 6),
            ("store_unfit", 1),
            ("upstream_unreachable", 6),
            ("outcome_unknown", 6),
            ("force_unavailable", 1),
            ("disk_full", 1),
            ("cancelled", 1),
            ("internal", 1),
        ];
        assert_eq!(codes, expected);
    }
}
