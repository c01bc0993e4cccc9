#!/bin/sh
# busybox's shell at work: pipelines, here-documents, substitution, loops, jobs, traps.
cd /tmp && mkdir -p shell && cd shell || exit 1
busybox=/bin/busybox
for applet in ls cat sort uniq wc grep sed tr head tail seq find mkdir rm touch cut tee sleep expr; do
    eval "$applet() { $busybox $applet \"\$@\"; }"
done

echo "== pipelines"
seq 1 100 | grep 7 | sort -rn | head -5
seq 1 50 | wc -l
echo one two three | tr ' ' '\n' | sort | tee copy | tail -1
cat copy
false | true; echo "status $?"
true | false; echo "status $?"

echo "== here-documents"
name=world
cat <<END
hello $name
$(echo nested $((6 * 7)))
END
cat <<'END'
no $expansion here
END

echo "== redirections"
echo out >file; echo more >>file; cat <file
ls /nonexistent 2>errors; echo "status $?"; wc -l <errors
{ echo to stdout; echo to stderr >&2; } 2>&1 | sort
exec 5>fifth; echo five >&5; exec 5>&-; cat fifth

echo "== loops and conditions"
total=0
for i in 1 2 3 4 5; do total=$((total + i)); done
echo $total
while read -r line; do echo "read: $line"; done <file
i=0; until [ $i -ge 3 ]; do i=$((i + 1)); [ $i -eq 2 ] && continue; echo "i=$i"; done
case abc in a*) echo starts with a;; *) echo no;; esac
f() { local x=$1; [ "$x" -le 1 ] && { echo 1; return; }; echo $((x * $(f $((x - 1))))); }
f 6

echo "== background"
(sleep 0.1; echo late >late) & job=$!
echo early
wait $job; echo "waited: $?"; cat late
(exit 7) & wait $!; echo "status $?"
sleep 10 & job=$!
# Whether the shell says `Terminated` depends on when it reaps the job: on Linux, too.
kill $job; wait $job 2>/dev/null; echo "killed: $?"

echo "== traps and subshells"
trap 'echo trapped USR1' USR1
kill -USR1 $$
(trap 'echo leaving' EXIT; exit 3); echo "status $?"
(cd /etc && pwd); pwd
umask 077; touch private; ls -l private | cut -c1-10

echo "== files"
mkdir -p tree/a/b tree/c
for f in tree/1 tree/a/2 tree/a/b/3 tree/c/4; do echo "$f" >$f; done
find tree -type f | sort
find tree -name '[0-9]' -exec cat {} \; | sort | sed 's/tree/TREE/'
rm -r tree/a; find tree | sort
test -e tree/a || echo gone
[ -d tree ] && [ -s file ] && [ ! -x file ] && echo tests work
