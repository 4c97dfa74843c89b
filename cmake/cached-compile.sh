#!/bin/sh
# Compiler launcher: ccache. A precompiled header is large (100 to 300 MB) and never the same bytes twice, so ccache
# (CCACHE_PCH_EXTSUM=1) is given a sum of the text that it is made from, written beside it here.
output='' before=''
for word; do
  [ "$before" != -o ] || output=$word
  before=$word
done

preprocessed() {  # COMMAND: the text that its compiler would see, without line markers, which hold paths
  left=$#
  while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    case $word in
      -o | -MF | -MT | -MQ) shift && left=$((left - 1)) ;;
      -c | -MD | -MMD) ;;
      *) set -- "$@" "$word" ;;
    esac
  done
  "$@" -E -P
}

case $output in
  *.gch)
    rm -f "$output"  # or the text would be its name
    preprocessed "$@" | sha256sum >"$output.sum"
    ;;
esac
exec ccache "$@"
