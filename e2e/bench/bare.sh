dir=$1 count=$2 rootfs=$3
# crun 1.8 refuses hybrid cgroups; with no controllers to see on the unified tree it uses the v1 ones
if [ -e /sys/fs/cgroup/unified/cgroup.controllers ]; then
  mount --bind /dev/null /sys/fs/cgroup/unified/cgroup.controllers
fi
for i in $(seq "$count"); do
  b=$dir/$i
  mkdir -p "$b"/{rootfs,upper,work}
  mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$b/upper,workdir=$b/work" "$b/rootfs"
  if [ "$i" = 1 ]; then
    (cd "$b" && crun spec && sed -i -e 's/"terminal": true/"terminal": false/' -e 's/"sh"/"sleep", "infinity"/' config.json)
  else
    cp "$dir/1/config.json" "$b/config.json"
  fi
done
