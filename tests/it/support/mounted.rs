//! File systems of a test's own. Mounting takes the rights of root.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};

/// A mount that goes when dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory, of `size` as `mount` has it; none if nothing can be mounted here.
    pub(crate) fn tmpfs(target: &Path, size: &str) -> Option<Self> {
        let options = CString::new(format!("size={size}")).unwrap();
        mount("tmpfs", target, "tmpfs", MountFlags::empty(), options.as_c_str()).ok()?;
        Some(Self(target.to_owned()))
    }

    /// `source` at `target` as well; none if nothing can be mounted here.
    pub(crate) fn bind(source: &Path, target: &Path) -> Option<Self> {
        mount_bind(source, target).ok()?;
        Some(Self(target.to_owned()))
    }

    pub(crate) fn read_only(self) -> Self {
        mount_remount(&self.0, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        self
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
