//! Filesystems, from `df -P -k`, `df -P -i` and /proc/mounts.

use std::collections::BTreeMap;

use orchestrator_sdk::prelude::*;

use super::percent;

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Filesystem {
    pub mount: String,
    pub device: String,
    /// As in /proc/mounts: ext4, xfs, nfs4 …
    pub kind: Option<String>,
    /// It lives on another machine.
    pub network: bool,
    pub size_bytes: u64,
    pub used_bytes: u64,
    /// For users other than root.
    pub available_bytes: u64,
    /// Of what users other than root can have, as `df` counts.
    pub used_percent: f64,
    pub inodes: Option<u64>,
    pub inodes_used_percent: Option<f64>,
}

/// Every real filesystem, by mount point. `None` when `df` printed none that can be read.
pub fn filesystems(blocks: &str, inodes: Option<&str>, mounts: Option<&str>) -> Option<Vec<Filesystem>> {
    let kinds = mounts.map(kinds).unwrap_or_default();
    let inodes: BTreeMap<&str, Row<'_>> = inodes.into_iter().flat_map(rows).map(|row| (row.mount, row)).collect();
    let mut found: Vec<Filesystem> = Vec::new();
    let mut any = false;
    for row in rows(blocks) {
        any = true;
        let kind = kinds.get(row.mount).map(String::as_str);
        let [size, used, available] = row.numbers.map(|blocks| blocks.max(0).unsigned_abs().saturating_mul(1024));
        if size == 0 || !is_real(row.device, kind, row.mount) {
            continue;
        }
        // Some filesystems have no fixed number of inodes and say 0.
        let counts = inodes.get(row.mount).map(|row| row.numbers.map(|count| count.max(0).unsigned_abs()));
        let counts = counts.filter(|[total, ..]| *total > 0);
        let filesystem = Filesystem {
            mount: row.mount.to_owned(),
            device: row.device.to_owned(),
            kind: kind.map(str::to_owned),
            network: is_network(row.device, kind),
            size_bytes: size,
            used_bytes: used,
            available_bytes: available,
            used_percent: percent(used, used.saturating_add(available)),
            inodes: counts.map(|[total, ..]| total),
            inodes_used_percent: counts.map(|[total, used, _]| percent(used, total)),
        };
        // The same filesystem bound to a second place, or a subvolume of it: the shortest mount point stands for all.
        match found.iter_mut().find(|other| other.device == filesystem.device && other.device.starts_with("/dev/")) {
            Some(other) if other.mount.len() > filesystem.mount.len() => *other = filesystem,
            Some(_) => {}
            None => found.push(filesystem),
        }
    }
    found.sort_by(|a, b| a.mount.cmp(&b.mount));
    any.then_some(found)
}

/// A line of `df -P`: device, total, used, available, capacity, mount point.
struct Row<'a> {
    device: &'a str,
    numbers: [i64; 3],
    mount: &'a str,
}

/// The header is in the server's language and falls out because it has no numbers.
fn rows(output: &str) -> impl Iterator<Item = Row<'_>> {
    output.lines().filter_map(row)
}

/// Device and mount point may hold spaces, so the row is found by its four numbers in a row.
fn row(line: &str) -> Option<Row<'_>> {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    words.windows(4).find_map(|window| {
        let [total, used, available, capacity] = window else { return None };
        // `-` stands for what a filesystem does not tell.
        let number = |word: &str| if word == "-" { Some(0) } else { word.parse::<i64>().ok() };
        let is_capacity =
            *capacity == "-" || capacity.strip_suffix('%').is_some_and(|number| number.parse::<u32>().is_ok());
        if !is_capacity {
            return None;
        }
        let numbers = [number(total)?, number(used)?, number(available)?];
        // Words of one line: the distance between their addresses is an offset in it.
        let offset = |word: &str| (word.as_ptr() as usize).checked_sub(line.as_ptr() as usize);
        let device = line.get(..offset(total)?)?.trim();
        let mount = line.get(offset(capacity)?.checked_add(capacity.len())?..)?.trim();
        (!device.is_empty() && mount.starts_with('/')).then_some(Row { device, numbers, mount })
    })
}

/// The kind of filesystem by mount point. Of two mounts on one point the later one is seen.
fn kinds(mounts: &str) -> BTreeMap<String, String> {
    let read = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        Some((unescaped(fields.next()?), fields.next()?.to_owned()))
    };
    mounts.lines().filter_map(read).collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Memory, kernel interfaces and read-only images, which are full by nature.
const PSEUDO: &[&str] = &[
    "tmpfs",
    "devtmpfs",
    "ramfs",
    "rootfs",
    "proc",
    "sysfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "mqueue",
    "hugetlbfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "bpf",
    "configfs",
    "fusectl",
    "efivarfs",
    "autofs",
    "binfmt_misc",
    "nsfs",
    "rpc_pipefs",
    "overlay",
    "aufs",
    "squashfs",
    "erofs",
    "cramfs",
    "iso9660",
    "udf",
    "fuse.lxcfs",
    "fuse.gvfsd-fuse",
    "fuse.portal",
    "fuse.snapfuse",
];

/// Files of the machine that a container engine mounts over those of a container.
const MOUNTED_FILES: &[&str] = &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

fn is_real(device: &str, kind: Option<&str>, mount: &str) -> bool {
    // The root counts whatever it is: a container's overlay, a diskless system's tmpfs.
    if mount == "/" {
        return true;
    }
    let pseudo = match kind {
        Some(kind) => PSEUDO.contains(&kind),
        // What is on a loop device is most often an image.
        None => device.starts_with("/dev/loop") || !device.starts_with('/') && !is_network(device, None),
    };
    !pseudo && !MOUNTED_FILES.contains(&mount)
}

const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "9p",
    "virtiofs",
    "lustre",
    "beegfs",
    "gpfs",
    "ocfs2",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.rclone",
    "fuse.ceph",
    "fuse.davfs",
    "davfs",
];

fn is_network(device: &str, kind: Option<&str>) -> bool {
    match kind {
        Some(kind) => NETWORK.contains(&kind),
        // A share of Windows, or `host:/path`.
        None => device.starts_with("//") || device.split_once(":/").is_some_and(|(host, _)| !host.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Dateisystem 1024-Blöcke Benutzt Verfügbar Kapazität Eingehängt auf\n";

    fn mounts_of(blocks: &str, mounts: Option<&str>) -> Vec<String> {
        filesystems(&format!("{HEADER}{blocks}"), None, mounts).unwrap().into_iter().map(|one| one.mount).collect()
    }

    #[test]
    fn spaces_in_device_and_mount_point_are_kept() {
        let blocks = "//nas/my share 100 40 60 40% /mnt/my share\n/dev/sda1 100 50 50 50% /\n";
        let mounts = "//nas/my\\040share /mnt/my\\040share cifs rw 0 0\n/dev/sda1 / ext4 rw 0 0\n";
        let found = filesystems(blocks, None, Some(mounts)).unwrap();
        let share = found.iter().find(|one| one.mount == "/mnt/my share").unwrap();
        assert_eq!(
            (share.device.as_str(), share.kind.as_deref(), share.network),
            ("//nas/my share", Some("cifs"), true)
        );
        assert_eq!((share.size_bytes, share.available_bytes, share.used_percent), (102_400, 61_440, 40.0));
    }

    #[test]
    fn memory_kernel_interfaces_and_images_are_left_out() {
        let blocks = "tmpfs 100 0 100 0% /run\n/dev/loop0 100 100 0 100% /snap/core/1\noverlay 100 50 50 50% /var/lib/docker/x/merged\n\
            /dev/sda1 100 50 50 50% /\nnas:/export 100 50 50 50% /srv\n/dev/sdb 0 0 0 - /empty\n";
        let mounts = "tmpfs /run tmpfs rw 0 0\n/dev/loop0 /snap/core/1 squashfs ro 0 0\n\
            overlay /var/lib/docker/x/merged overlay rw 0 0\n/dev/sda1 / ext4 rw 0 0\nnas:/export /srv nfs4 rw 0 0\n";
        assert_eq!(mounts_of(blocks, Some(mounts)), ["/", "/srv"]);
    }

    #[test]
    fn without_the_list_of_mounts_the_device_tells() {
        let blocks = "tmpfs 100 0 100 0% /run\n/dev/sda1 100 50 50 50% /\nnas:/export 100 50 50 50% /srv\n";
        let found = filesystems(blocks, None, None).unwrap();
        assert_eq!(
            found.iter().map(|one| (one.mount.as_str(), one.network)).collect::<Vec<_>>(),
            [("/", false), ("/srv", true)]
        );
    }

    #[test]
    fn the_root_of_a_container_is_kept_and_its_mounted_files_are_not() {
        let blocks = "overlay 100 50 50 50% /\n/dev/vda1 900 500 400 56% /etc/hosts\n/dev/vdb 10 5 5 50% /data\n";
        let mounts = "overlay / overlay rw 0 0\n/dev/vda1 /etc/hosts ext4 rw 0 0\n/dev/vdb /data ext4 rw 0 0\n";
        assert_eq!(mounts_of(blocks, Some(mounts)), ["/", "/data"]);
    }

    #[test]
    fn a_filesystem_that_is_mounted_twice_counts_once() {
        let blocks = "/dev/sda1 100 50 50 50% /srv/bound\n/dev/sda1 100 50 50 50% /\n/dev/sda1 100 50 50 50% /home\n";
        assert_eq!(mounts_of(blocks, None), ["/"]);
    }

    #[test]
    fn inodes_belong_to_their_mount_and_may_be_unlimited() {
        let blocks = "/dev/sda1 100 50 50 50% /\n/dev/sdb1 100 50 50 50% /srv\n";
        let inodes = "/dev/sda1 1000 950 50 95% /\n/dev/sdb1 0 0 0 - /srv\n";
        let found = filesystems(blocks, Some(inodes), None).unwrap();
        let shown: Vec<_> = found.iter().map(|one| (one.inodes, one.inodes_used_percent)).collect();
        assert_eq!(shown, [(Some(1000), Some(95.0)), (None, None)]);
    }

    #[test]
    fn more_used_than_there_is_for_users_is_all_of_it() {
        let found = filesystems("/dev/sda1 1000 980 -20 103% /\n", None, None).unwrap();
        assert_eq!(found.first().map(|one| (one.available_bytes, one.used_percent)), Some((0, 100.0)));
    }

    #[test]
    fn what_is_no_table_is_unknown() {
        assert_eq!(filesystems("", None, None), None);
        assert_eq!(filesystems("df: unrecognized option\n", None, None), None);
    }
}
