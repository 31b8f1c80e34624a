// Hello is the program of both services of the example: `greet` answers with a greeting, `web` serves a page that asks the
// greeter by its service name and counts its visits in a file on the volume, `check` is the health check.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

const visitsFile = "/data/visits"

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: hello greet | web | check URL")
	}
	switch os.Args[1] {
	case "greet":
		serve(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Hello from a container") })
	case "web":
		serve(page)
	case "check":
		if _, err := get(os.Args[2]); err != nil {
			log.Fatal(err)
		}
	}
}

func serve(handler http.HandlerFunc) {
	http.HandleFunc("/", handler)
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe(":80", nil))
}

func page(w http.ResponseWriter, _ *http.Request) {
	greeting, err := get("http://greeter/")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	visits, err := count()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "%s. You are visitor %d.\n", greeting, visits)
}

var counting sync.Mutex

// count adds one to the number in the volume and returns it.
func count() (int, error) {
	counting.Lock()
	defer counting.Unlock()
	content, err := os.ReadFile(visitsFile)
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	visits, _ := strconv.Atoi(strings.TrimSpace(string(content))) // 0 for the first one
	visits++
	return visits, os.WriteFile(visitsFile, fmt.Appendln(nil, visits), 0o644)
}

func get(url string) (string, error) {
	answer, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return string(body), err
}
