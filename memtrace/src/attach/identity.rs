//! Where in kernel structures it says which process a pidfd stands for, and which address space a process has.

use aya::EbpfLoader;

use crate::kernel::btf::Btf as KernelTypes;

/// The global of the kernel side, and the structure and member whose offset it is.
const MEMBERS: [(&str, &str, &str); 16] = [
    ("TASK_FILES", "task_struct", "files"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDTABLE_MAX_FDS", "fdtable", "max_fds"),
    ("FDTABLE_FD", "fdtable", "fd"),
    ("FILE_INODE", "file", "f_inode"),
    ("FILE_PRIVATE_DATA", "file", "private_data"),
    ("INODE_SB", "inode", "i_sb"),
    ("INODE_PRIVATE", "inode", "i_private"),
    ("SB_MAGIC", "super_block", "s_magic"),
    ("PID_LEVEL", "pid", "level"),
    ("PID_NUMBERS", "pid", "numbers"),
    ("TASK_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_THREAD_PID", "task_struct", "thread_pid"),
    ("TASK_FLAGS", "task_struct", "flags"),
    ("TASK_MM", "task_struct", "mm"),
    ("MM_USERS", "mm_struct", "mm_users"),
];

/// Of those that are not taken as they are.
const OTHERS: [(&str, &str); 3] = [
    ("pid_namespace", "ns"),
    ("ns_common", "inum"),
    ("upid", "ns"),
];

/// The offsets, by the kernel's own BTF; 0 for what it does not tell.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    /// 1 if all are known.
    known: u32,
    members: [u32; MEMBERS.len()],
    /// Of a pid namespace's inode number in struct pid_namespace.
    namespace_inode: u32,
}

impl Offsets {
    pub fn of(types: &KernelTypes) -> Self {
        let wanted: Vec<(&str, &str)> = MEMBERS
            .iter()
            .map(|(_, structure, member)| (*structure, *member))
            .chain(OTHERS)
            .collect();
        let found = types.member_offsets(&wanted);
        let (members, others) = found.split_at(MEMBERS.len());
        let namespace_inode = others[0].zip(others[1]).map(|(ns, inum)| ns + inum);
        // Where the array of struct upid is read, its shape is taken for granted.
        let known = members.iter().all(Option::is_some)
            && namespace_inode.is_some()
            && others[2] == Some(8);
        Self {
            known: u32::from(known),
            members: std::array::from_fn(|i| members[i].unwrap_or(0)),
            namespace_inode: namespace_inode.unwrap_or(0),
        }
    }

    /// Whether the kernel side can follow a pidfd and tell address spaces apart.
    pub fn known(&self) -> bool {
        self.known != 0
    }

    /// Tells the kernel side.
    pub fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global("IDENTIFIES", &self.known, true)
            .override_global("PID_NS_INUM", &self.namespace_inode, true);
        for ((global, ..), offset) in MEMBERS.iter().zip(&self.members) {
            loader.override_global(global, offset, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_with_btf_tells_all_of_them() {
        let Ok(types) = KernelTypes::of_kernel() else {
            println!("NOT RUN: the kernel has no BTF");
            return;
        };
        let offsets = Offsets::of(&types);
        assert!(offsets.known(), "{offsets:?}");
    }
}
