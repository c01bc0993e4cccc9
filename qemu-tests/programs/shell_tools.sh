#!/bin/sh
# Applets that use more of the kernel: archives, hashes, links, process lists, dates, dd.
PATH=/bin
bb() { /bin/busybox "$@"; }
cd /tmp && bb mkdir -p tools && cd tools || exit 1

echo "== tar and hashes"
bb mkdir -p src/deep/er
i=0
while [ $i -lt 20 ]; do
    bb seq 1 $((i * 50)) >src/file$i
    bb cp src/file$i src/deep/er/copy$i
    i=$((i + 1))
done
bb ln -s file3 src/link
bb ln src/file4 src/hard
bb chmod 751 src/file5
(cd src && bb find . -type f | bb sort | bb xargs /bin/busybox sha256sum) >before
bb tar cf all.tar src
bb mkdir out && bb tar xf all.tar -C out
(cd out/src && bb find . -type f | bb sort | bb xargs /bin/busybox sha256sum) >after
bb cmp before after && echo same
bb wc -l <after
bb readlink out/src/link
bb stat -c '%a %h %s' out/src/file5 out/src/hard
bb md5sum /etc/data

echo "== gzip"
bb gzip -k before && bb zcat before.gz | bb cmp - before && echo round trip

echo "== dd and friends"
bb dd if=/dev/zero of=zeros bs=1000 count=300 2>/dev/null; bb wc -c <zeros
bb dd if=/etc/data bs=1 skip=100 count=5 2>/dev/null | bb od -An -tu1
bb head -c 100000 /dev/urandom >noise; bb cp noise noise2; bb cmp noise noise2 && echo equal
bb truncate -s 5000 noise; bb wc -c <noise
bb yes | bb head -n 1000 | bb wc -l
bb seq 1 5000 | bb sort -R | bb sort -n | bb md5sum
bb seq 1 3000 | bb awk '{ s += $1 } END { print s }'

echo "== processes"
# Into a file: a pipeline's second shell may still carry the script's name.
bb ps >processes; bb grep -c '[s]hell_tools' processes; bb rm processes
bb id -u; bb whoami; bb hostname nacre && bb hostname
bb env -i A=1 /bin/busybox env
echo 'exit 5' >script; bb sh script; echo "status $?"
bb timeout 0.2 /bin/busybox sleep 5; echo "status $?"
bb nohup /bin/busybox true </dev/null 2>/dev/null; echo "status $?"
bb sh -c 'kill -9 $$'; echo "status $?"
bb xargs -n 2 echo <<END
1 2 3
4 5
END
bb mkfifo fifo; (echo through >fifo) & bb cat fifo; wait
bb find . -name 'file1*' | bb sort | bb head -3
bb du -s out >/dev/null && bb df /tmp | bb tail -1 | bb awk '{ print $6 }'
bb date -d @0 -u '+%Y-%m-%d %H:%M:%S'
bb test -t 0; echo "terminal: $?"
bb rm -r /tmp/tools && echo removed
