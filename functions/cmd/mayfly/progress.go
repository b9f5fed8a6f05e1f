package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	patienceFor = time.Second      // what is faster shows no progress
	frameFor    = time.Second / 10 // of the spinner
	lineFor     = 10 * time.Second // where there is no terminal
)

// showProgress tells on w that something goes on, until stop is called: on a
// terminal by a line that moves, elsewhere by a line now and then.
func showProgress(w io.Writer, what func() string) (stop func()) {
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		if isTerminal(w) {
			spin(w, what, ended)
		} else {
			tell(w, what, ended)
		}
	}()
	return func() {
		close(ended)
		<-gone
	}
}

func spin(w io.Writer, what func() string, ended <-chan struct{}) {
	start := time.Now()
	select {
	case <-ended:
		return
	case <-time.After(patienceFor):
	}
	frames := []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
	ticker := time.NewTicker(frameFor)
	defer ticker.Stop()
	for i := 0; ; i++ {
		fmt.Fprintf(w, "\r\033[K%c %s… %s", frames[i%len(frames)], what(), time.Since(start).Round(time.Second))
		select {
		case <-ended:
			fmt.Fprint(w, "\r\033[K")
			return
		case <-ticker.C:
		}
	}
}

func tell(w io.Writer, what func() string, ended <-chan struct{}) {
	start := time.Now()
	ticker := time.NewTicker(lineFor)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			fmt.Fprintf(w, "%s… %s\n", what(), time.Since(start).Round(time.Second))
		}
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
