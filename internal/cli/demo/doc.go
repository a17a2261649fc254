// Package demo is gmsa demo: the whole story of group Managed Service Accounts on one
// machine, told by the commands that make it.
//
// A [Story] runs the program itself, again and again, as a user at a terminal would: each
// step prints the command lines that it runs and what they answered, and fails if the
// answer is not what the story needs. Nothing is done behind the scenes but three things:
// files are written that an administrator would write, and they are shown; the programs of
// the demo go by a [Clock] that the story moves, because nobody waits 30 days for a
// rollover; and there is a web site, [Site], to log in to, and a client for it, [Visit].
//
// The clock reaches no other command: see [Script].
//
// Read [Run] first, then the steps in story.go.
package demo
