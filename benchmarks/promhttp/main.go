// Promhttp serves an exposition with Go's own handler, promhttp, to be measured beside the exporter.
//
// Usage: promhttp FILE PORT. FILE is in the text format. It is parsed once: a scrape gathers nothing, it only
// writes and compresses, which is the least that promhttp does.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: promhttp FILE PORT")
	}
	families, err := read(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	gatherer := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, nil })
	http.Handle("/metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	fmt.Println(len(families))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[2], nil))
}

func read(file string) ([]*dto.MetricFamily, error) {
	text, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer text.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return nil, err
	}
	families := make([]*dto.MetricFamily, 0, len(parsed))
	for _, family := range parsed {
		families = append(families, family)
	}
	return families, nil
}
