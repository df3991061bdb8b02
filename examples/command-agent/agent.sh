#!/bin/sh
# The least that an agent can be: a prompt on stdin, a reply on stdout, exit code 0. It stands in its workspace.
prompt=$(cat)
echo "You asked: $prompt"
echo "Here are $(find . -type f -not -path './.git/*' | wc -l | tr -d ' ') files, and I am run $POSTERN_RUN_ID."
