root=$1 pidfile=$2
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root"/{old,sys,proc,dev,run,tmp}
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
echo $$ >"$pidfile"
cd "$root"
pivot_root . old
umount -l /old
exec dockerd -H unix:///run/docker.sock --data-root /var/lib/docker -p /run/docker.pid
