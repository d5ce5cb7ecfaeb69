//! The OpenRPC documents of both methods, as they are served.

/// `job.cleanup_by_tag`, hero_proc's side.
pub const HERO_PROC: &str = include_str!("../openrpc/hero_proc.json");

/// `jobs.cleanup`, codescalers' side.
pub const CODESCALERS: &str = include_str!("../openrpc/codescalers.json");
