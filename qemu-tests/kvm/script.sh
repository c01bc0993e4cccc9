#!/bin/bash
# Two hundred lines of bash, mostly its own language: what scripts in containers are made of.
set -u
shopt -s nullglob extglob
cd /work || exit 1

section() { printf '== %s\n' "$1"; }

section "variables and expansion"
path=/usr/local/lib/libexample.so.1.2
echo "${path##*/}" "${path%/*}" "${path%%.*}" "${#path}"
echo "${path/lib/LIB}" "${path//lib/LIB}" "${path^^}"
unset missing
echo "${missing:-default}" "${missing-}" "${path:+set}"
text="one two  three"
read -r first rest <<<"$text"
echo "<$first> <$rest>"
printf '%05d|%-8s|%8s|%x|%c\n' 42 left right 255 z
echo {a,b,c}{1..3}
echo $((7 / 2)) $((7 % 3)) $((2 ** 20)) $((0x1f)) $((1 << 10))

section "arrays"
list=(pear apple "fig tree" banana)
echo "${#list[@]}" "${list[1]}" "${list[@]:1:2}"
list+=(cherry)
for item in "${list[@]}"; do printf '[%s]' "$item"; done
echo
mapfile -t sorted < <(printf '%s\n' "${list[@]}" | sort)
echo "${sorted[*]}"
declare -A colours=([sky]=blue [grass]=green)
colours[sun]=yellow
for key in sky grass sun; do echo "$key is ${colours[$key]}"; done
unset 'colours[sky]'
echo "${#colours[@]}"

section "functions"
factorial() {
    local n=$1
    if ((n <= 1)); then
        echo 1
    else
        echo $((n * $(factorial $((n - 1)))))
    fi
}
factorial 5
fibonacci() {
    local a=0 b=1 i
    for ((i = 0; i < $1; i++)); do
        printf '%d ' "$a"
        ((b += a, a = b - a))
    done
    echo
}
fibonacci 30
returns() { return "$1"; }
returns 3 || echo "returned $?"
variadic() { echo "$# arguments, last ${!#}"; }
variadic a b "c d"

section "loops and tests"
for ((i = 0; i < 5; i++)); do
    ((i == 1)) && continue
    ((i == 4)) && break
    printf '%d ' "$i"
done
echo
n=27 steps=0
while ((n != 1)); do
    if ((n % 2)); then ((n = 3 * n + 1)); else ((n /= 2)); fi
    ((++steps))
done
echo "27 takes $steps steps"
primes=()
for ((i = 2; i < 60; i++)); do
    for p in "${primes[@]}"; do
        ((i % p == 0)) && continue 2
    done
    primes+=("$i")
done
echo "${primes[*]}"
for word in apple Banana 42 "" "a b"; do
    case $word in
        [a-z]*([a-z])) kind=lower ;;
        [A-Z]*) kind=capital ;;
        +([0-9])) kind=number ;;
        "") kind=empty ;;
        *) kind=other ;;
    esac
    echo "<$word> $kind"
done
[[ foobar =~ ^foo(b.*)$ ]] && echo "${BASH_REMATCH[1]}"
[[ -d /etc && ! -e /none ]] && echo "tests work"

section "pipes and redirections"
printf '%s\n' delta alpha charlie bravo | sort | tee sorted.txt | head -n 2
wc -l <sorted.txt
{
    echo "to stdout"
    echo "to stderr" >&2
} 2>errors.txt | tr a-z A-Z
cat errors.txt
exec 3>third.txt
echo "through three" >&3
exec 3>&-
cat third.txt
seq 1 1000 | awk '{ sum += $1 } END { print sum }'
false | true | (exit 4)
echo "${PIPESTATUS[*]}"
set -o pipefail
false | true
echo "pipefail $?"
set +o pipefail
diff <(seq 1 5) <(seq 2 6)
echo "diff $?"
cat <<-END
	stripped of tabs: $((1 + 1))
	END
cat <<'END' | sed -n '2p'
first $HOME
second $HOME
END

section "processes"
(
    trap 'echo leaving' EXIT
    exit 6
)
echo "subshell $?"
sleep 0.1 &
pid=$!
wait "$pid"
echo "waited $?"
sleep 30 &
kill -TERM $!
wait $! 2>/dev/null
echo "terminated $?"
for i in 1 2 3; do
    (
        sleep "0.$i"
        echo "job $i" >"job.$i"
    ) &
done
wait
cat job.*
coproc upper { while read -r line; do echo "${line^^}"; done; }
echo "hello coprocess" >&"${upper[1]}"
read -r answer <&"${upper[0]}"
echo "$answer"
eval "exec ${upper[1]}>&-"
wait
trap 'echo "caught USR1"' USR1
kill -USR1 $$
trap - USR1
{ bash -c 'kill -SEGV $$'; } 2>/dev/null
echo "segfault $?"
(ulimit -n 10; ulimit -n)
timeout 0.2 sleep 5
echo "timeout $?"
echo "$(</proc/sys/kernel/ostype)"

section "files"
mkdir -p tree/{a,b}/{x,y}
for dir in tree/*/*; do echo "in $dir" >"$dir/file"; done
find tree -type f | sort
grep -rl "b/y" tree
cp -r tree copy
rm -r tree/a
echo tree/*
mv copy/a tree/moved
ls tree/moved
ln -s ../sorted.txt tree/link
readlink -f tree/link
chmod 604 tree/b/x/file
stat -c '%a %s %h %F' tree/b/x/file
touch -d @1000000000 tree/b/x/file
stat -c %Y tree/b/x/file
[[ sorted.txt -nt tree/b/x/file ]] && echo newer
truncate -s 12345 sparse
stat -c %s sparse
tail -c 5 sparse | od -An -tx1
head -c 3000 /dev/zero | tr '\0' x >xs
md5sum xs
split -b 1000 xs part.
ls part.*
cat part.* | cmp - xs && echo "same again"
rm -rf copy part.*

section "text"
printf 'b 2\na 10\nc 1\n' | sort -k2n | cut -d' ' -f1 | paste -sd,
echo "the quick brown fox" | sed -E 's/(\w+) (\w+)/\2 \1/g'
printf 'x\ny\nx\nz\nx\n' | sort | uniq -c | sort -rn | awk '{ print $2, $1 }'
printf 'a,b,c\n1,2,3\n' | while IFS=, read -r x y z; do echo "$z-$y-$x"; done
seq 1 20 | grep -E '^1.$' | tr '\n' ' '
echo
echo done
exit 5
